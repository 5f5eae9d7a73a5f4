"""vLLM's CPU worker, with one gloo thread. Imports vLLM; loaded in the engine core's process.

vLLM makes a dozen process groups also where there is one process. Torch gives each a network
device, and the thread of each device wakes a hundred times a second though nobody ever calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed import ProcessGroupGloo, distributed_c10d
from vllm.v1.worker.cpu_worker import CPUWorker


class OneDeviceWorker(CPUWorker):  # type: ignore[misc]
    def init_device(self) -> None:
        with one_device():
            super().init_device()


@contextmanager
def one_device() -> Iterator[None]:
    """Gloo groups that are made meanwhile share a device; torch has no option for it."""
    device = ProcessGroupGloo.create_default_device()

    class OnOneDevice(ProcessGroupGloo):
        def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
            options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # noqa: SLF001
            options._timeout, options._devices = timeout, [device]  # noqa: SLF001
            super().__init__(store, rank, size, options)

    distributed_c10d.ProcessGroupGloo = OnOneDevice  # type: ignore[misc]
    try:
        yield
    finally:
        distributed_c10d.ProcessGroupGloo = ProcessGroupGloo  # type: ignore[misc]

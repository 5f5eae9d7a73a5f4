"""The fine-tuning replica: a `FineTuneWorker` that lives as long as its Ray actor. Nobody calls it.

Where trainings are to have a GPU they run in Ray tasks that ask for it, so that it is taken only
while one runs; the task's machine must see the data folder.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from serving.app import create_finetune
from serving.errors import BackendError
from serving.finetune.launch import Launcher, LocalLauncher, Running
from serving.finetune.plan import read_plan
from serving.settings import Settings

_LOOK_S = 0.2
_LOST = 1  # the exit code of a process whose task Ray has ended


class FineTuneReplica:
    # Serve awaits an async constructor, and an async `__del__` before it ends the actor.
    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        self._worker = create_finetune(settings, _launcher(settings))
        await self._worker.__aenter__()

    async def __del__(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def check_health(self) -> None:
        if not self._worker.alive():
            raise BackendError("The fine-tuning worker has ended.")


def _launcher(settings: Settings) -> Launcher:
    finetune = settings.finetune
    if finetune.gpus:
        return RayLauncher(finetune.gpus, finetune.threads)
    return LocalLauncher(finetune.threads)


class RayLauncher:
    """In a Ray task with a GPU, or a part of one; waits until one is free. Files are checked here:
    that takes no GPU, and must not wait for one that another job trains on."""

    def __init__(self, gpus: float, threads: int) -> None:
        self._gpus, self._threads = gpus, threads

    def launch(self, folder: Path) -> Running:
        if read_plan(folder).stage == "validate":
            return LocalLauncher(self._threads).launch(folder)
        task: Any = _run.options(num_gpus=self._gpus)
        return _Task(task.remote(str(folder), self._threads))


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
def _run(folder: str, threads: int) -> int:
    """The process's exit code. When Ray ends the task, the process ends with it."""
    process = LocalLauncher(threads).launch(Path(folder))
    while (code := process.exit_code()) is None:
        time.sleep(_LOOK_S)
    return code


class _Task:
    def __init__(self, result: Any) -> None:
        self._result = result

    def exit_code(self) -> int | None:
        ready, _ = ray.wait([self._result], timeout=0)
        if not ready:
            return None
        try:
            return int(ray.get(self._result))
        except RayError:
            return _LOST

    def memory_bytes(self) -> int:
        return 0  # Ray watches its tasks

    def kill(self) -> None:
        ray.cancel(self._result, force=True)
        ray.wait([self._result])

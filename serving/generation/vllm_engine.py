"""The real engine: vLLM in this process, with its core in a child process.

Owns the life of the engine and its adapter slots. What a request becomes inside vLLM is in
`vllm_runtime.py`, the only module that imports it, which takes half a minute; this one is cheap.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from serving.adapters.adapter import Adapter
from serving.adapters.residency import Residency
from serving.adapters.tensors import WEIGHTS
from serving.adapters.validation import validate
from serving.errors import EngineFailed
from serving.generation.engine import EngineHealth
from serving.generation.vllm_arguments import engine_arguments, environment, own_worker
from serving.settings import EngineSettings
from serving.types import AdapterId, Delta, Prompt

if TYPE_CHECKING:
    from serving.generation.vllm_runtime import Runtime

logger = logging.getLogger("engram.engine")

PROGRESS_EVERY_S = 10.0


class VllmEngine:
    """`Engine` on vLLM. A cold adapter waits at most `lease_wait_s` for a slot and its load."""

    def __init__(self, settings: EngineSettings, lease_wait_s: float = 30.0) -> None:
        self.model = settings.served_name
        self._settings = settings
        self._arguments = own_worker(settings) | engine_arguments(settings)
        self.residency = Residency(self, settings.max_loras, lease_wait_s)
        self._numbers: dict[AdapterId, int] = {}  # vLLM knows an adapter by a number
        self._loaded: dict[AdapterId, Adapter] = {}  # in the core, in a slot or at hand
        self._at_hand: dict[AdapterId, Adapter] = {}
        self._one_load = asyncio.Lock()
        self._runtime: Runtime | None = None

    async def __aenter__(self) -> Self:
        started_s = time.monotonic()
        os.environ.update(environment(self._settings))
        async with _progress(started_s), AsyncExitStack() as unless_ready:
            unless_ready.push_async_callback(self._stop)
            self._runtime = await asyncio.to_thread(_start, self._settings, self._arguments)
            logger.info("engine warms up")
            await _warm_up(self)
            unless_ready.pop_all()
        logger.info("engine is ready", extra={"seconds": round(time.monotonic() - started_s, 1)})
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.residency.close()
        await self._stop()

    async def _stop(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.stop()

    def lease(self, adapter: Adapter | None) -> AbstractAsyncContextManager[None]:
        return self.residency.lease(adapter)

    def generate(self, prompt: Prompt, adapter: Adapter | None) -> AsyncGenerator[Delta, None]:
        runtime = self._started()
        lora = None
        if adapter is not None:
            if adapter.id not in self.residency.loaded:
                raise EngineFailed(f"adapter '{adapter.id}' was used without a lease")
            lora = runtime.lora(self._numbers[adapter.id], adapter)
        return runtime.generate(prompt, lora)

    def count_tokens(self, text: str) -> int:
        return self._started().count_tokens(text)

    @property
    def max_model_len(self) -> int:
        return self._started().max_model_len

    @property
    def special_tokens(self) -> tuple[str, ...]:
        return self._started().special_tokens

    async def health(self) -> EngineHealth:
        if self._runtime is None:
            return EngineHealth(False, 0, 0, detail="the engine is not started")
        running, waiting = self._runtime.requests()
        died = self._runtime.died()
        return EngineHealth(
            healthy=not died,
            running=running,
            waiting=waiting,
            loaded=self.residency.loaded,
            detail="the engine died" if died else "",
        )

    async def load(self, adapter: Adapter) -> None:
        """Fills a slot, for `Residency`. vLLM's loop loads it between two steps."""
        runtime = self._started()
        at_hand = self._at_hand.pop(adapter.id, None)
        if at_hand != adapter:
            if at_hand is not None:  # other files under its name
                await self.unload(adapter.id)
            await asyncio.to_thread(self._read_ahead, adapter, runtime)
        number = self._numbers.setdefault(adapter.id, len(self._numbers) + 1)
        async with self._one_load:  # else vLLM's loop takes those that wait without a step between
            await runtime.add_lora(runtime.lora(number, adapter))
        self._loaded[adapter.id] = adapter

    def _read_ahead(self, adapter: Adapter, runtime: Runtime) -> None:
        """Finds out what is wrong, and brings the file into memory, while streams go on."""
        validate(adapter.path, self._settings.max_lora_rank, runtime.base_shape())
        with (adapter.path / WEIGHTS).open("rb") as file:
            while file.read(2**20):
                pass

    @property
    def at_hand(self) -> Collection[AdapterId]:
        """Those that wait in the core's host memory, for `Residency`; longest first."""
        return self._at_hand.keys()

    async def vacate(self, adapter_id: AdapterId) -> None:
        """Leaves the adapter in the core's host memory, for `Residency`: vLLM gives its slot to
        the next, and has it back in a slot in a third of the time that reading it takes."""
        self._at_hand[adapter_id] = self._loaded[adapter_id]
        while len(self._at_hand) > self._settings.host_loras:
            await self.unload(next(iter(self._at_hand)))

    async def unload(self, adapter_id: AdapterId) -> None:
        """Frees slot and memory, for `Residency`."""
        self._at_hand.pop(adapter_id, None)
        self._loaded.pop(adapter_id, None)
        await self._started().remove_lora(self._numbers[adapter_id])

    async def listed(self) -> frozenset[AdapterId]:
        """The adapters that the core itself says it holds."""
        numbers = await self._started().list_loras()
        return frozenset(id for id, number in self._numbers.items() if number in numbers)

    def _started(self) -> Runtime:
        if self._runtime is None:
            raise EngineFailed("the engine is not started")
        return self._runtime


def _start(settings: EngineSettings, arguments: dict[str, Any]) -> Runtime:
    """Imports vLLM and starts its core; blocks for a while.

    Raises:
        EngineFailed: the core did not start; the message says why.
    """
    if settings.model.startswith(("/", ".")) and not Path(settings.model, "config.json").is_file():
        raise EngineFailed(f"engine.model: there is no model in {settings.model}")
    logger.info("engine imports vLLM")
    logging.getLogger("vllm").setLevel(logging.WARNING)
    from serving.generation.vllm_runtime import Runtime

    logger.info("engine loads its weights", extra={"model": settings.model})
    try:
        return Runtime(settings, arguments)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineFailed(f"the engine did not start: {error}") from error


async def _warm_up(engine: VllmEngine) -> None:
    """One short answer, so that the first user does not pay for lazy imports and caches."""
    messages = ({"role": "user", "content": "Hello"},)
    prompt = Prompt("warm-up", messages, {"max_tokens": 2, "ignore_eos": True, "logprobs": True})
    async for _ in engine.generate(prompt, None):
        pass


@asynccontextmanager
async def _progress(started_s: float) -> AsyncIterator[None]:
    """Says every few seconds that the start is still going on."""

    async def report() -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            logger.info(
                "engine still starts", extra={"seconds": round(time.monotonic() - started_s)}
            )

    reporter = asyncio.create_task(report())
    try:
        yield
    finally:
        reporter.cancel()

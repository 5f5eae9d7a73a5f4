"""What a cold load does to the streams beside it: their inter-token gaps, as ratios in one run.

Every turn has four phases with the same streams of the base model. In `steady` nothing else
happens. In `warm` requests for a loaded adapter come in, in `cold` for adapters that must be loaded
first, so that `cold` over `warm` is the load alone. In `burst` several cold ones come at once; it
is measured as the engine does it, and again with what keeps the loads apart switched off.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

from loadtests.statistics import estimate, percentile
from serving.adapters.adapter import Adapter
from serving.generation.vllm_engine import VllmEngine
from serving.settings import ROOT, EngineSettings
from serving.types import AdapterId, Prompt

STREAMS, TOKENS, SLOTS, AT_ONCE = 4, 100, 8, 4
EVERY_S = 0.15  # between arrivals
SOURCE = ROOT / "deploy/demo/adapters/helpdesk@1"  # rank 16, every linear layer

Arrivals = Callable[[], Awaitable[None]]


async def measure(folder: Path, repeats: int) -> int:
    """Prints gaps and ratios."""
    settings = EngineSettings(max_loras=SLOTS)
    async with VllmEngine(settings) as engine:
        turns = [await _turn(engine, folder / f"turn{n}") for n in range(repeats + 1)]
    _print(turns[1:])  # the first warms up
    return 0


async def _turn(engine: VllmEngine, folder: Path) -> dict[str, list[float]]:
    adapters = _copies(folder, 3 * SLOTS)
    warm, cold = adapters[0], iter(adapters[1:])
    await _ask(engine, warm)

    async def one_warm() -> None:
        await _ask(engine, warm)

    async def one_cold() -> None:
        await _ask(engine, next(cold))

    async def many_cold() -> None:
        await asyncio.gather(*(_ask(engine, next(cold)) for _ in range(AT_ONCE)))

    async def many_warm() -> None:
        await asyncio.gather(*(_ask(engine, warm) for _ in range(AT_ONCE)))

    gaps = {"steady": await _gaps(engine, None)}
    gaps["warm"] = await _gaps(engine, one_warm)
    gaps["cold"] = await _gaps(engine, one_cold, times=4)
    gaps["warm burst"] = await _gaps(engine, many_warm, times=2)
    gaps["cold burst"] = await _gaps(engine, many_cold, times=2)
    async with _unprotected(engine):
        gaps["cold burst, loads not kept apart"] = await _gaps(engine, many_cold, times=2)
    await _unload_all(engine)
    return gaps


def _copies(folder: Path, count: int) -> list[Adapter]:
    paths = [folder / f"copy{number}@1" for number in range(count)]
    for path in paths:
        shutil.copytree(SOURCE, path)
    return [Adapter(AdapterId(f"load/{folder.name}.{path.name}"), path) for path in paths]


async def _ask(engine: VllmEngine, adapter: Adapter) -> None:
    async with engine.lease(adapter), aclosing(engine.generate(_prompt(2), adapter)) as deltas:
        async for _ in deltas:
            pass


def _prompt(tokens: int) -> Prompt:
    messages = ({"role": "user", "content": "Tell me about the river."},)
    return Prompt("load", messages, {"max_tokens": tokens, "ignore_eos": True, "temperature": 0})


async def _gaps(engine: VllmEngine, arrival: Arrivals | None, times: int = 4) -> list[float]:
    """Seconds between the tokens of streams, while `arrival` happens beside them."""
    streams = [asyncio.create_task(_stream(engine)) for _ in range(STREAMS)]
    await asyncio.sleep(EVERY_S)
    for _ in range(times if arrival else 0):
        assert arrival is not None
        await asyncio.gather(arrival(), asyncio.sleep(EVERY_S))
    return [gap for gaps in await asyncio.gather(*streams) for gap in gaps]


async def _stream(engine: VllmEngine) -> list[float]:
    async with aclosing(engine.generate(_prompt(TOKENS), None)) as deltas:
        times = [time.perf_counter() async for _ in deltas]
    return [after - before for before, after in pairwise(times)][2:]


@asynccontextmanager
async def _unprotected(engine: VllmEngine) -> AsyncIterator[None]:
    """As vLLM takes loads by itself: all that wait, between two steps."""
    parts: Any = engine
    lock, parts._one_load = parts._one_load, nullcontext()  # noqa: SLF001
    try:
        yield
    finally:
        parts._one_load = lock  # noqa: SLF001


async def _unload_all(engine: VllmEngine) -> None:
    for id in engine.residency.known:
        engine.residency.retire(id)
    while engine.residency.known:  # noqa: ASYNC110 - it has no event for being empty
        await asyncio.sleep(0.01)


def _print(turns: Sequence[dict[str, list[float]]]) -> None:
    def of(phase: str, percent: float) -> list[float]:
        return [1000 * percentile(turn[phase], percent) for turn in turns]

    print("| phase | p50 ms | p99 ms | longest ms |\n|---|---|---|---|")
    for phase in turns[0]:
        shown = [estimate(of(phase, percent)).value for percent in (50, 99, 100)]
        print(f"| {phase} | " + " | ".join(f"{ms:.1f}" for ms in shown) + " |")
    print("\n| ratio of p99 | median | 95 % interval |\n|---|---|---|")
    for above, below in (
        ("cold", "steady"),
        ("cold", "warm"),
        ("warm", "steady"),
        ("cold burst", "steady"),
        ("cold burst", "warm burst"),
        ("cold burst, loads not kept apart", "steady"),
    ):
        pairs = zip(of(above, 99), of(below, 99), strict=True)
        found = estimate([a / b for a, b in pairs])
        print(f"| {above} ÷ {below} | {found.value:.2f} | {found.low:.2f} – {found.high:.2f} |")

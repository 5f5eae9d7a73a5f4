"""Loads for a retriever in this process: closed loops, open loops, and turns of both.

The clients are coroutines beside it, so that no socket and no serialising is counted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtests.statistics import Estimate, estimate, percentile, ratio

Ask = Callable[[int], Awaitable[object]]  # the question's number
_WARM_UP = 0.2  # share of a turn before its clock starts


@dataclass(frozen=True, slots=True)
class Turn:
    """One arm under load once."""

    latencies_s: Sequence[float]
    wall_s: float
    cpu_s: float  # of this process, clients and retriever

    @property
    def qps(self) -> float:
        return len(self.latencies_s) / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Per search."""
        return self.cpu_s / max(1, len(self.latencies_s)) * 1e3

    def latency_ms(self, percent: float) -> float:
        return percentile(self.latencies_s, percent) * 1e3


Turns = Mapping[str, Sequence[Turn]]


async def closed_loop(ask: Ask, clients: int, seconds: float, questions: Iterator[int]) -> Turn:
    """Each client asks its next question when it has its answer."""
    latencies: list[float] = []
    ends = time.perf_counter() + seconds

    async def client() -> None:
        while (asked := time.perf_counter()) < ends:
            await ask(next(questions))
            latencies.append(time.perf_counter() - asked)

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return Turn(latencies, time.perf_counter() - began, time.process_time() - cpu)


async def open_loop(
    ask: Ask, per_s: float, seconds: float, questions: Iterator[int], seed: int
) -> Turn:
    """Questions at random moments, whatever becomes of the earlier ones; a latency counts from the
    moment at which its question was due."""
    latencies: list[float] = []

    async def one(due: float) -> None:
        await ask(next(questions))
        latencies.append(time.perf_counter() - due)

    chance = random.Random(seed)
    cpu, began = time.process_time(), time.perf_counter()
    due = began
    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(per_s)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return Turn(latencies, time.perf_counter() - began, time.process_time() - cpu)


async def compare(
    arms: Mapping[str, Ask], clients: int, seconds: float, repeats: int, questions: Iterator[int]
) -> Turns:
    """A-B-A-B; a short turn of each before, and before every turn, is dropped."""
    turns: dict[str, list[Turn]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, ask in arms.items():
            await closed_loop(ask, clients, seconds * _WARM_UP, questions)
            turns[name].append(await closed_loop(ask, clients, seconds, questions))
    return turns


def qps(turns: Sequence[Turn]) -> Estimate:
    return estimate([turn.qps for turn in turns])


def latency_ms(turns: Sequence[Turn], percent: float) -> Estimate:
    return estimate([turn.latency_ms(percent) for turn in turns])


def ratio_of(of: Callable[[Turn], float], above: Sequence[Turn], below: Sequence[Turn]) -> Estimate:
    return ratio(list(map(of, above)), list(map(of, below)))

"""Loads one arm at a time, in turns, and keeps what client and kernel saw of each turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from loadtests.arms import Arm, ArmError
from loadtests.client import Answer, Load, closed_loop
from loadtests.processes import Reading

ENGINE_CORE = "engine core"  # the process that runs the model, the same work in every arm
_IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: an arm, asked for one model name."""

    name: str
    arm: Arm
    model: str


@dataclass(frozen=True, slots=True)
class Work:
    """What every case does in one turn. Token counts are fixed, so that all do the same."""

    questions: Sequence[str]
    streams: int
    requests: int
    max_tokens: int

    def body(self, model: str, question: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def requests_for(self, case: Case, count: int) -> Iterator[bytes]:
        for question in islice(cycle(self.questions), count):
            yield case.arm.target.request(self.body(case.model, question))


@dataclass(frozen=True, slots=True)
class Turn:
    """One case under load once."""

    load: Load
    cpu_s: Mapping[str, float]  # by role of the process
    errors: Sequence[str]
    idle_cpu_ms_per_s: float = 0.0  # of the arm

    @property
    def cpu_us_per_token(self) -> float:
        return sum(self.cpu_s.values()) / self.load.tokens * 1e6

    @property
    def added_us_per_token(self) -> float:
        """Beyond what the arm spends anyway, so that a slow turn does not look costly."""
        idle_us = self.idle_cpu_ms_per_s * 1e3 * self.load.wall_s
        return self.cpu_us_per_token - idle_us / self.load.tokens

    @property
    def front_us_per_token(self) -> float:
        """Everything except the process that runs the model."""
        return self.cpu_us_per_token - self.role_us_per_token(ENGINE_CORE)

    def role_us_per_token(self, role: str) -> float:
        return self.cpu_s.get(role, 0.0) / self.load.tokens * 1e6

    @property
    def requests_per_s(self) -> float:
        return len(self.load.answers) / self.load.wall_s


@dataclass(frozen=True, slots=True)
class Measured:
    """Every turn of every case, in the order they ran, and each arm's CPU when nobody asks."""

    turns: Mapping[str, Sequence[Turn]]
    idle_cpu_ms_per_s: Mapping[str, float]

    @property
    def errors(self) -> list[str]:
        return [
            f"{name}: {error}"
            for name, turns in self.turns.items()
            for turn in turns
            for error in turn.errors
        ]


async def measure(
    cases: Sequence[Case], work: Work, repeats: int, report: Callable[[str], None]
) -> Measured:
    """A-B-C-A-B-C. Dropped: a first turn of each, and a request per stream before every turn."""
    turns: dict[str, list[Turn]] = {case.name: [] for case in cases}
    for case in cases:
        await _load(case, work, work.requests)
    idle = await _idle(cases)
    for repeat in range(repeats):
        for case in cases:
            turn = await _turn(case, work, idle[case.arm.name])
            turns[case.name].append(turn)
            report(
                f"{repeat + 1}/{repeats} {case.name:<24} {turn.cpu_us_per_token:7.0f} CPU-µs/token"
                f" {turn.load.wall_s:6.1f} s" + (f"  {turn.errors[0]}" if turn.errors else "")
            )
    return Measured(turns, idle)


async def _turn(case: Case, work: Work, idle_cpu_ms_per_s: float) -> Turn:
    await _load(case, work, work.streams)
    before = case.arm.tree.cpu()
    load = await _load(case, work, work.requests)
    cpu_s = case.arm.tree.cpu().since(before)
    errors = [error for answer in load.answers if (error := _error(answer, work.max_tokens))]
    if not load.tokens:
        raise ArmError(f"{case.name}: no request succeeded: {errors[0]}")
    return Turn(load, cpu_s, errors, idle_cpu_ms_per_s)


async def _load(case: Case, work: Work, requests: int) -> Load:
    return await closed_loop(case.arm.target, work.requests_for(case, requests), work.streams)


def _error(answer: Answer, expected: int) -> str | None:
    if answer.error or answer.tokens == expected:
        return answer.error
    return f"{answer.tokens} tokens instead of {expected}"


async def _idle(cases: Sequence[Case]) -> dict[str, float]:
    """CPU milliseconds per second of every arm while none is asked."""
    await asyncio.sleep(_IDLE_S / 2)
    arms = {case.arm.name: case.arm for case in cases}
    before = {name: arm.tree.cpu() for name, arm in arms.items()}
    await asyncio.sleep(_IDLE_S)
    return {name: _rate(arms[name].tree.cpu(), reading) for name, reading in before.items()}


def _rate(after: Reading, before: Reading) -> float:
    return sum(after.since(before).values()) / (after.at - before.at) * 1e3

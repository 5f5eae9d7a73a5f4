"""Loads one arm at a time, in turns, and keeps what client and kernel saw of each turn.

A turn lasts for a time, not for a count, so that a slow arm does not make a run longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, cycle
from typing import Any

from loadtests.arms import Arm, ArmError
from loadtests.client import Answer, Load, closed_loop
from loadtests.processes import Reading, Tree

ENGINE_CORE = "engine core"  # the process that runs the model, the same work in every arm
_IDLE_S = 2.0
_WARM_UP_TOKENS = 8
_LIMIT_S = 300.0  # of one turn, however long it should last; a stuck server must not hold the run
_numbers = count(1)


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
    seconds: float
    max_tokens: int
    body_bytes: int = 0  # of every request, about; 0: the question alone

    def body(self, model: str, question: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": self._padded(question)}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def requests_for(self, case: Case) -> Iterator[bytes]:
        """New ones until the time is up; every stream sends one at least."""
        end = time.perf_counter() + self.seconds
        for question in cycle(self.questions):
            yield case.arm.target.request(self.body(case.model, question))
            if time.perf_counter() >= end:
                return

    def _padded(self, question: str) -> str:
        """Starts with a number, so that no server knows a long text from the request before."""
        missing = self.body_bytes - len(question)
        if missing <= 0:
            return question
        text = " ".join(self.questions)
        return f"{next(_numbers)}. {(text * (missing // len(text) + 1))[:missing]} {question}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One case under load once."""

    load: Load
    cpu_s: Mapping[str, float]  # by role of the process
    errors: Sequence[str]
    idle_cpu_ms_per_s: float = 0.0  # of the arm
    upstream_cpu_s: Mapping[str, float] = field(default_factory=dict)  # of what a relay asks
    streams: int = 1

    @property
    def cpu_us_per_token(self) -> float:
        """Of the whole path: the arm, and what it relays to."""
        return self._all_s / self.load.tokens * 1e6

    @property
    def cpu_us_per_request(self) -> float:
        return self._all_s / self._answered * 1e6

    @property
    def own_us_per_request(self) -> float:
        """Without the server that a relay asks."""
        return sum(self.cpu_s.values()) / self._answered * 1e6

    @property
    def added_us_per_token(self) -> float:
        """Beyond what the arm spends anyway, so that a slow turn does not look costly."""
        idle_us = self.idle_cpu_ms_per_s * 1e3 * self.load.wall_s
        return self.cpu_us_per_token - idle_us / self.load.tokens

    @property
    def front_us_per_token(self) -> float:
        """Everything except the process that runs the model."""
        core_s = self.cpu_s.get(ENGINE_CORE, 0.0) + self.upstream_cpu_s.get(ENGINE_CORE, 0.0)
        return (self._all_s - core_s) / self.load.tokens * 1e6

    def role_us_per_token(self, role: str) -> float:
        return self.cpu_s.get(role, 0.0) / self.load.tokens * 1e6

    @property
    def requests_per_s(self) -> float:
        return self._answered / self.load.wall_s

    @property
    def tokens_per_s(self) -> float:
        return self.load.tokens / self.load.wall_s

    @property
    def client_us_per_token(self) -> float:
        return self.load.client_cpu_s / self.load.tokens * 1e6

    @property
    def client_share(self) -> float:
        """Of one core; beyond a half the client, not the server, may be what is measured."""
        return self.load.client_cpu_s / self.load.wall_s

    @property
    def ttfts(self) -> list[float]:
        """Seconds to the first token, without the first request of each stream, which all start
        at once, unless there are no others."""
        good = sorted((a for a in self.load.answers if not a.error), key=lambda a: a.sent)
        return [answer.ttft for answer in good[self.streams :] or good]

    @property
    def gaps(self) -> list[float]:
        """Seconds between chunks with text."""
        return [gap for answer in self.load.answers for gap in answer.gaps]

    @property
    def _all_s(self) -> float:
        return sum(self.cpu_s.values()) + sum(self.upstream_cpu_s.values())

    @property
    def _answered(self) -> int:
        return sum(answer.tokens > 0 for answer in self.load.answers)


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
    """A-B-C-A-B-C. Dropped: a first turn of each, and a request per stream before every turn.

    Raises:
        ArmError: a case answered no request at all, or a turn did not end.
    """
    turns: dict[str, list[Turn]] = {case.name: [] for case in cases}
    for case in cases:
        await _load(case, replace(work, seconds=work.seconds / 2))
    idle = await _idle(cases)
    for repeat in range(repeats):
        for case in cases:
            turn = await _turn(case, work, idle[case.arm.name])
            turns[case.name].append(turn)
            report(
                f"{repeat + 1}/{repeats} {case.name:<18} {turn.cpu_us_per_token:7.0f} CPU-µs/token"
                f" {turn.tokens_per_s:7.0f} tokens/s"
                + (f"  {turn.errors[0]}" if turn.errors else "")
            )
    return Measured(turns, idle)


async def _turn(case: Case, work: Work, idle_cpu_ms_per_s: float) -> Turn:
    await _load(case, replace(work, seconds=0, max_tokens=min(_WARM_UP_TOKENS, work.max_tokens)))
    arm, upstream = case.arm.tree, _upstream(case.arm)
    before = arm.cpu(), upstream.cpu() if upstream else None
    load = await _load(case, work)
    cpu_s = arm.cpu().since(before[0])
    upstream_cpu_s = upstream.cpu().since(before[1]) if upstream and before[1] else {}
    errors = [error for answer in load.answers if (error := _error(answer, work.max_tokens))]
    if not load.tokens:
        raise ArmError(f"{case.name}: no request succeeded: {errors[0]}")
    return Turn(load, cpu_s, errors, idle_cpu_ms_per_s, upstream_cpu_s, work.streams)


async def _load(case: Case, work: Work) -> Load:
    try:
        async with asyncio.timeout(_LIMIT_S):
            return await closed_loop(case.arm.target, work.requests_for(case), work.streams)
    except TimeoutError:
        raise ArmError(f"{case.name}: a turn did not end within {_LIMIT_S:.0f} s") from None


def _upstream(arm: Arm) -> Tree | None:
    """Of the server that this arm relays to."""
    return arm.needs.tree if arm.needs else None


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

"""Checks the client before it judges a server: it must see what a mock server knows it did.

Both loops are checked, at low load and at 64 streams; the open loop also against a server that
stands still for a second, of which a client that waits for answers would see almost nothing.
`python -m loadtests.selftest` runs it alone; the benchmark runs it first and prints the result.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from statistics import mean, median

import uvloop

from loadtests.answer import Answer
from loadtests.client import Target, closed_loop
from loadtests.load import Load
from loadtests.open_loop import open_loop
from loadtests.schedule import constant
from loadtests.statistics import percentile

TOLERANCE = 0.05
MAX_CLIENT_SHARE = 0.5  # of one core, at the load that shows the client's cost
STREAMS, REQUESTS = 2, 24
BUSY_STREAMS, BUSY_REQUESTS = 64, 192
CALM_RATE, BUSY_RATE = 12, 360  # requests/s; of 0.18 s each, about as many streams as above
STALL_RATE, STALL_FOR_S = 40, 2
STALL_AT, STALL_S = 20, 1.0  # from the 20th request on, all wait for a second


@dataclass(frozen=True, slots=True)
class Runs:
    """Every load of the self-test."""

    calm: Load
    busy: Load
    open_calm: Load
    open_busy: Load
    stalled: Load

    @property
    def failed(self) -> int:
        loads = (self.calm, self.busy, self.open_calm, self.open_busy, self.stalled)
        return sum(len(load.answers) - len(load.completed) for load in loads)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Relative errors at low load and of a stall, and what the client costs at 64 streams."""

    ttft_error: float
    itl_error: float
    open_ttft_error: float  # from when a request was due
    stall_error: float  # of the TTFT of requests due in it
    late_p99_s: float  # of the open loop at its busiest, by its own fault
    cpu_us_per_token: float
    cpu_share: float
    failed: int

    @property
    def passed(self) -> bool:
        errors = (self.ttft_error, self.itl_error, self.open_ttft_error, self.stall_error)
        return max(errors) <= TOLERANCE and self.cpu_share <= MAX_CLIENT_SHARE and not self.failed

    def __str__(self) -> str:
        return (
            f"client self-test {'passed' if self.passed else 'FAILED'}: "
            f"TTFT off by {self.ttft_error:.1%}, inter-token by {self.itl_error:.1%}, "
            f"open-loop TTFT by {self.open_ttft_error:.1%}, a stall by {self.stall_error:.1%} "
            f"(limit {TOLERANCE:.0%}); {self.cpu_us_per_token:.0f} CPU-µs per token, "
            f"{self.cpu_share:.0%} of a core at {BUSY_STREAMS} streams (limit "
            f"{MAX_CLIENT_SHARE:.0%}), there late by {self.late_p99_s * 1e3:.1f} ms p99; "
            f"{self.failed} failed"
        )


async def selftest() -> SelfTest:
    async with mock() as target:
        request = target.request({"stream": True})
        calm = await closed_loop(target, [request] * REQUESTS, STREAMS)
        busy = await closed_loop(target, [request] * BUSY_REQUESTS, BUSY_STREAMS)
        open_calm = await open_loop(target, repeat(request), constant(CALM_RATE, 2))
        open_busy = await open_loop(target, repeat(request), constant(BUSY_RATE, 1))
    async with mock("--stall-at", f"{STALL_AT}", "--stall-ms", f"{STALL_S * 1e3}") as target:
        request = target.request({"stream": True})
        stalled = await open_loop(target, repeat(request), constant(STALL_RATE, STALL_FOR_S))
    return compare(Runs(calm, busy, open_calm, open_busy, stalled))


def compare(runs: Runs) -> SelfTest:
    """Medians over requests, since one badly scheduled moment is not the client's error."""
    busiest = max(runs.busy, runs.open_busy, key=lambda load: load.client_share)
    return SelfTest(
        ttft_error=_error(runs.calm, lambda answer: answer.ttft, "ttft_s"),
        itl_error=_error(runs.calm, lambda answer: mean(answer.gaps), "itl_s"),
        open_ttft_error=_error(runs.open_calm, lambda answer: answer.ttft, "ttft_s"),
        stall_error=_stall_error(runs.stalled),
        late_p99_s=percentile([answer.late for answer in runs.open_busy.answers], 99),
        cpu_us_per_token=busiest.client_cpu_s / max(1, busiest.tokens) * 1e6,
        cpu_share=busiest.client_share,
        failed=runs.failed,
    )


def _error(load: Load, measured: Callable[[Answer], float], name: str) -> float:
    """Of the median request, relative to what the server says; 1 if none was answered."""
    good = [answer for answer in load.completed if answer.gaps]
    return median([abs(measured(a) / _truth(a, name) - 1) for a in good] or [1.0])


def _stall_error(load: Load) -> float:
    """As `_error` of the TTFT. The server's clock leaves the stall out: it read nothing in it."""
    if len(load.completed) < len(load.answers):
        return 1.0
    began, until = load.answers[0].began, load.answers[STALL_AT - 1].sent + STALL_S
    due = (began + second for second in constant(STALL_RATE, STALL_FOR_S))  # whatever it says
    waits = list(zip(load.answers, due, strict=True))[STALL_AT - 1 :]
    return median(
        abs(answer.ttft / (until - due + _truth(answer, "ttft_s")) - 1)
        for answer, due in waits
        if due < until
    )


def _truth(answer: Answer, name: str) -> float:
    return float(answer.usage["truth"][name])


@asynccontextmanager
async def mock(*options: str) -> AsyncIterator[Target]:
    """A mock server in a process of its own; see its options."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.mock", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield Target(int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.selftest", description=__doc__)
    parser.parse_args()
    result = uvloop.run(selftest())
    print(result)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())

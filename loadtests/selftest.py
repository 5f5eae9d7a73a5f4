"""Checks the client before it judges a server: it must see what a mock server knows it did.

`python -m loadtests.selftest` runs it alone; the benchmark runs it first and prints the result.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import mean, median

import uvloop

from loadtests.client import Answer, Load, Target, closed_loop

TOLERANCE = 0.05
MAX_CLIENT_SHARE = 0.5  # of one core, at the load that shows the client's cost
STREAMS, REQUESTS = 2, 24
BUSY_STREAMS, BUSY_REQUESTS = 64, 192


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Relative errors at low load, and what the client costs at 64 streams."""

    ttft_error: float
    itl_error: float
    cpu_us_per_token: float
    cpu_share: float
    failed: int

    @property
    def passed(self) -> bool:
        errors = max(self.ttft_error, self.itl_error)
        return errors <= TOLERANCE and self.cpu_share <= MAX_CLIENT_SHARE and not self.failed

    def __str__(self) -> str:
        return (
            f"client self-test {'passed' if self.passed else 'FAILED'}: "
            f"TTFT off by {self.ttft_error:.1%}, inter-token by {self.itl_error:.1%} "
            f"(limit {TOLERANCE:.0%}); {self.cpu_us_per_token:.0f} CPU-µs per token, "
            f"{self.cpu_share:.0%} of a core at {BUSY_STREAMS} streams; {self.failed} failed"
        )


async def selftest() -> SelfTest:
    async with _mock() as target:
        request = target.request({"stream": True})
        calm = await closed_loop(target, [request] * REQUESTS, STREAMS)
        busy = await closed_loop(target, [request] * BUSY_REQUESTS, BUSY_STREAMS)
    return compare(calm, busy)


def compare(calm: Load, busy: Load) -> SelfTest:
    """Medians over requests, since one badly scheduled moment is not the client's error."""
    failed = len(calm.errors) + len(busy.errors)
    good = [answer for answer in calm.answers if not answer.error and answer.gaps]
    if not good or not busy.tokens:
        return SelfTest(1.0, 1.0, 0.0, 1.0, failed)
    return SelfTest(
        ttft_error=median(abs(_off(a.ttft, a, "ttft_s")) for a in good),
        itl_error=median(abs(_off(mean(a.gaps), a, "itl_s")) for a in good),
        cpu_us_per_token=busy.client_cpu_s / busy.tokens * 1e6,
        cpu_share=busy.client_cpu_s / busy.wall_s,
        failed=failed,
    )


def _off(measured: float, answer: Answer, name: str) -> float:
    truth = float(answer.usage["truth"][name])
    return measured / truth - 1


@asynccontextmanager
async def _mock() -> AsyncIterator[Target]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.mock", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield Target(int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


def main() -> int:
    result = uvloop.run(selftest())
    print(result)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""Lets in what this replica can start soon and refuses the rest at once, with a time to come back.

A bounded number of requests generate. Others wait only while their turn comes within a bounded
time: by Little's law, N slots that are held for W seconds each free one every W/N seconds, so who
is k-th in line waits k·W/N. See docs/decisions/0024.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic

from serving import telemetry
from serving.errors import Overloaded, RateLimited
from serving.fair_slots import FairSlots
from serving.settings import AdmissionSettings
from serving.types import Caller

log = logging.getLogger("engram.admission")

MAX_BUCKETS = 10_000  # API keys remembered at once
STANDING_SHARE = 0.1  # of the longest wait, how much is allowed while others are refused


@dataclass(slots=True)
class _Bucket:
    """Tokens refill evenly over the minute; a full bucket is one minute's allowance."""

    tokens: float
    at_s: float


class Admission:
    def __init__(self, settings: AdmissionSettings, clock: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._slots = FairSlots(settings.max_running)
        self._places = 0
        self._service_s = 1.0  # moving average of how long a slot is held
        self._refused_at = -math.inf
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def running(self) -> int:
        return self._slots.running

    @property
    def waiting(self) -> int:
        return self._slots.waiting + self._places

    @asynccontextmanager
    async def admit(self, caller: Caller) -> AsyncIterator[None]:
        """Holds one slot for the block, waiting for it if its turn comes soon enough.

        Raises:
            RateLimited: the key is over its requests per minute.
            Overloaded: the wait would be too long, or became it, or a tenant that has less of
                this replica came.
        """
        self._take_token(caller.key_id)
        if not self._fits():
            refusal = self._refusal()
            if not self._slots.displace(caller.tenant, refusal):
                raise refusal
        await self._acquire(caller)
        started = self._clock()
        telemetry.RUNNING.inc()
        try:
            yield
        finally:
            telemetry.RUNNING.dec()
            self._slots.release(caller.tenant)
            self._service_s += 0.1 * (self._clock() - started - self._service_s)

    def check(self, caller: Caller) -> None:
        """Raises what `admit` would raise now, and takes nothing. For refusing early."""
        self._refill(caller.key_id)
        if not self._fits() and not self._slots.has_precedence(caller.tenant):
            raise self._refusal()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Holds a place in the queue for what must be read before `admit`, which counts the
        request; it may still refuse it.

        Raises:
            RateLimited, Overloaded: as `admit` would.
        """
        self.check(caller)
        self._places += 1
        telemetry.WAITING.inc()
        try:
            yield
        finally:
            self._places -= 1
            telemetry.WAITING.dec()

    def _fits(self) -> bool:
        """Whether one more would start soon enough.

        A burst may fill the line up to the longest wait. Where that was not enough, it is load that
        stays: then the line is kept short, since it would only make everybody late.
        """
        line = self._line()
        if not line:
            return True
        limits, pace_s = self._settings, self._pace_s()
        if line > limits.max_queued or line * pace_s > limits.max_wait_s:
            return False
        is_calm = self._clock() - self._refused_at > limits.max_wait_s
        return is_calm or (line - 1) * pace_s <= STANDING_SHARE * limits.max_wait_s

    def _line(self) -> int:
        """Which one in line the next request would be; 0: it need not wait."""
        return max(0, self.running + self.waiting - self._settings.max_running + 1)

    def _pace_s(self) -> float:
        """Seconds from one freed slot to the next, while all are held."""
        return self._service_s / self._settings.max_running

    def _refusal(self) -> Overloaded:
        now = self._clock()
        if now - self._refused_at > self._settings.max_wait_s:
            log.warning("refusing requests", extra={"count": self.running + self.waiting})
        self._refused_at = now
        # Spread, so that those who are refused together do not come back together.
        wait_s = self._line() * self._pace_s() * random.uniform(1, 2)
        return Overloaded(
            f"{self.running} requests are running and {self.waiting} waiting; retry later",
            retry_after_s=float(max(1, math.ceil(wait_s))),
        )

    async def _acquire(self, caller: Caller) -> None:
        telemetry.WAITING.inc()
        try:
            async with asyncio.timeout(self._settings.max_wait_s):
                await self._slots.acquire(caller.tenant)
        except TimeoutError:
            raise self._refusal() from None
        finally:
            telemetry.WAITING.dec()

    def _take_token(self, key_id: str) -> None:
        bucket = self._refill(key_id)
        if bucket is not None:
            bucket.tokens -= 1

    def _refill(self, key_id: str) -> _Bucket | None:
        """The key's bucket, with a token at least; None: keys are not limited."""
        limit = self._settings.requests_per_minute
        if not limit:
            return None
        now = self._clock()
        bucket = self._buckets.setdefault(key_id, _Bucket(limit, now))
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(limit, bucket.tokens + (now - bucket.at_s) * limit / 60)
        bucket.at_s = now
        if bucket.tokens < 1:
            raise RateLimited(
                f"this API key may make {limit} requests per minute",
                retry_after_s=math.ceil((1 - bucket.tokens) * 60 / limit),
            )
        return bucket

"""Lets in what this replica can serve and refuses the rest at once, with a time to come back.

A bounded number of requests generate, a bounded number wait; what comes beyond is answered before
the engine's own queue can grow.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic

from serving import telemetry
from serving.errors import Overloaded, RateLimited
from serving.settings import AdmissionSettings
from serving.types import Caller

MAX_BUCKETS = 10_000  # API keys remembered at once


@dataclass(slots=True)
class _Bucket:
    """Tokens refill evenly over the minute; a full bucket is one minute's allowance."""

    tokens: float
    at_s: float


class Admission:
    def __init__(self, settings: AdmissionSettings, clock: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._slots = asyncio.Semaphore(settings.max_running)
        self._waiting = 0
        self._running = 0
        self._service_s = 1.0  # moving average of how long an admitted request takes
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def admit(self, caller: Caller) -> AsyncIterator[None]:
        """Holds one slot for the block, waiting for it if the queue has room.

        Raises:
            RateLimited: the key is over its requests per minute.
            Overloaded: the queue is full.
        """
        self._take_token(caller.key_id)
        if self._slots.locked() and self._waiting >= self._settings.max_queued:
            raise self._overloaded()
        await self._acquire()
        started = self._clock()
        self._running += 1
        telemetry.RUNNING.inc()
        try:
            yield
        finally:
            self._running -= 1
            telemetry.RUNNING.dec()
            self._slots.release()
            self._service_s += 0.1 * (self._clock() - started - self._service_s)

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Holds a place in the queue for what must be read before `admit`, which counts the
        request; it may still refuse it.

        Raises:
            RateLimited, Overloaded: as `admit` would.
        """
        self._refill(caller.key_id)
        limits = self._settings
        if self._running + self._waiting >= limits.max_running + limits.max_queued:
            raise self._overloaded()
        with self._as_waiting():
            yield

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._running} requests are running and {self._waiting} waiting; retry later",
            retry_after_s=self._wait_s(),
        )

    async def _acquire(self) -> None:
        with self._as_waiting():
            await self._slots.acquire()

    @contextmanager
    def _as_waiting(self) -> Iterator[None]:
        self._waiting += 1
        telemetry.WAITING.inc()
        try:
            yield
        finally:
            self._waiting -= 1
            telemetry.WAITING.dec()

    def _wait_s(self) -> float:
        """How long the queue takes to drain at the present pace, at least a second."""
        rounds = (self._waiting + 1) / self._settings.max_running
        return float(max(1, math.ceil(rounds * self._service_s)))

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

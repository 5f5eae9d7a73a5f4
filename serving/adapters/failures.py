"""Loads that failed just now, so that a broken adapter does not stall the engine per request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.adapters.adapter import Adapter
from serving.errors import AdapterNotReady
from serving.types import AdapterId

FIRST_S, LONGEST_S = 1.0, 30.0
MAX_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class _Failure:
    adapter: Adapter
    error: AdapterNotReady
    wait_s: float
    until: float


class Failures:
    """An adapter that failed is left alone for a second, then twice as long each time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[AdapterId, _Failure] = {}  # the longest ago first

    def add(self, adapter: Adapter, error: AdapterNotReady) -> None:
        before = self._known.pop(adapter.id, None)
        repeated = before is not None and before.adapter == adapter
        wait_s = min(LONGEST_S, 2 * before.wait_s) if before and repeated else FIRST_S
        self._known[adapter.id] = _Failure(adapter, error, wait_s, self._clock() + wait_s)
        if len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]

    def forget(self, adapter_id: AdapterId) -> None:
        self._known.pop(adapter_id, None)

    def recent(self, adapter: Adapter) -> AdapterNotReady | None:
        """Why the adapter is not to be tried again yet; other files under its name are."""
        failure = self._known.get(adapter.id)
        if failure is None or failure.adapter != adapter:
            return None
        left_s = failure.until - self._clock()
        if left_s <= 0:
            return None
        return AdapterNotReady(failure.error.message, retry_after_s=left_s)

"""What was read lately, for a few seconds: keeps SQL out of the hot path."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentlyRead(Generic[K, V]):
    """Values that are forgotten `ttl_s` after they were put, or when there are too many."""

    def __init__(self, ttl_s: float, clock: Callable[[], float], capacity: int = 10_000) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry and self._clock() < entry[0] else None

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._entries[key] = (self._clock() + self._ttl_s, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

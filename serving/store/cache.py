"""What was read lately, for a few seconds: keeps SQL out of the hot path."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
Mark = tuple[int, float]


class RecentlyRead(Generic[K, V]):
    """Values that are forgotten `ttl_s` after they began to be read, or when there are too many.

    Whoever reads a value that may change meanwhile takes a `mark` before, and puts it with it: a
    value whose reading took long is as old as it is, and one from before a `clear` is not kept.
    """

    def __init__(self, ttl_s: float, clock: Callable[[], float], capacity: int = 10_000) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._clears = 0
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry and self._clock() < entry[0] else None

    def mark(self) -> Mark:
        """What to put a value with that is read from now on."""
        return self._clears, self._clock()

    def put(self, key: K, value: V, mark: Mark | None = None) -> None:
        with self._lock:
            clears, read_at = mark or self.mark()
            if clears != self._clears:
                return
            self._entries[key] = (read_at + self._ttl_s, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._clears += 1
            self._entries.clear()

"""Keeps Python's garbage collector from walking through every passage again and again.

It looks for cycles, of which passages have none, and a full collection of 100,000 of them stops all
threads for 130 ms. What is there is set aside from time to time; it is freed all the same when the
last reference goes.
"""

from __future__ import annotations

import gc

CHANGES = 2_000


class Settled:
    """Remembers at which place of the sequence the objects were last set aside."""

    def __init__(self, seq: int = 0) -> None:
        self._seq = seq

    def follow(self, seq: int, at_once: bool = False) -> None:
        """Sets aside what has come since. What is garbage goes first, or it would stay."""
        if at_once or seq - self._seq >= CHANGES:
            gc.collect()
            gc.freeze()
            self._seq = seq

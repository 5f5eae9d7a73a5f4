"""What one would try first: passages by popularity, its ranks frozen for a while.

A rank is the logarithm of a count, rounded with hysteresis; every epoch halves the counts, so that
what nobody asks for any more sinks. `loadtests.prompt_order` compares it with what Engram does.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from serving.types import Passage

MARGIN = 0.75  # of a doubling, before a passage changes its rank


class ByPopularity:
    """Most popular first; without a rank yet, by relevance behind those that have one."""

    def __init__(self, first_epoch: int = 16, longest_epoch: int = 256) -> None:
        self._counts: dict[str, float] = {}
        self._ranks: dict[str, int] = {}
        self._epoch, self._longest = first_epoch, longest_epoch
        self._prompts = 0

    def __call__(self, _: Hashable, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        ordered = sorted(passages, key=lambda passage: -self._ranks.get(passage.id, 0))
        for passage in passages:
            self._counts[passage.id] = self._counts.get(passage.id, 0) + 1
        self._prompts += 1
        if self._prompts == self._epoch:
            self._rank()
        return tuple(ordered)

    def _rank(self) -> None:
        for id, count in self._counts.items():
            level = math.log2(count) + 2
            if id not in self._ranks or abs(level - self._ranks[id]) > MARGIN:
                self._ranks[id] = round(level)
        if self._epoch == self._longest:
            self._counts = {id: count / 2 for id, count in self._counts.items() if count >= 1}
            self._ranks = {id: self._ranks[id] for id in self._counts}
        self._epoch, self._prompts = min(2 * self._epoch, self._longest), 0

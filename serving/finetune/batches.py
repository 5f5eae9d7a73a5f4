"""In which order lessons are learned: a pure function of seed and epoch, so that a training run
goes on after a kill exactly where it was.

Lessons of similar length share a batch, so that little of it is padding; which batch comes when is
drawn anew in each epoch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
BUCKET = 8  # batches that are sorted by length together


def batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The epoch's batches, each a list of places in `lengths`."""
    rng = random.Random(f"{seed}:{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    found = []
    for start in range(0, len(order), BUCKET * batch_size):
        bucket = sorted(order[start : start + BUCKET * batch_size], key=lambda at: lengths[at])
        found += [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
    rng.shuffle(found)
    return found


def passes(rows: Sequence[T], lengths: Sequence[int], max_tokens: int) -> list[list[T]]:
    """The rows of a batch in parts that fit into memory: with padding at most `max_tokens` each,
    if one row alone is not longer."""
    parts: list[list[T]] = []
    longest = 0
    for row, length in sorted(zip(rows, lengths, strict=True), key=lambda pair: pair[1]):
        longest = max(longest, length)
        if parts and longest * (len(parts[-1]) + 1) <= max_tokens:
            parts[-1].append(row)
        else:
            parts, longest = [*parts, [row]], length
    return parts


def steps(examples: int, batch_size: int, epochs: int) -> int:
    return -(-examples // batch_size) * epochs

"""Vectors by key, in blocks: adding never copies what is there, removing moves one row.

A scan over few large blocks is as fast as over one array, and a store of ten chunks stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from serving.retrieval.embedder import Vectors
from serving.retrieval.index import NO_KEY, Keys

BLOCK_ROWS = 65_536
FIRST_ROWS = 64


class Block(NamedTuple):
    """Rows and whose they are."""

    keys: Keys
    vectors: Vectors


class Rows:
    """Written by one thread. Another may read an older `blocks()`: what changed meanwhile, it
    reads torn, and `changed` names it."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.changed: set[int] | None = None  # keys put, removed or moved, while somebody reads
        self._blocks: list[Block] = []
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: int) -> bool:
        return key in self._row_of

    def blocks(self) -> Iterator[Block]:
        """Views, without the room at the end."""
        for number, block in enumerate(self._blocks):
            rows = min(BLOCK_ROWS, len(self) - number * BLOCK_ROWS)
            yield Block(block.keys[:rows], block.vectors[:rows])

    def put(self, keys: Keys, vectors: Vectors) -> None:
        """A key that is there gets the new vector; of equal keys the last counts."""
        for key, vector in zip(keys.tolist(), vectors, strict=True):
            row = self._row_of.setdefault(key, len(self._row_of))
            self._write(row, key, vector)

    def remove(self, keys: Keys) -> None:
        """The last row moves into the hole. Removing what is not there is harmless."""
        for key in keys.tolist():
            row = self._row_of.pop(key, None)
            if row is None:
                continue
            self._note(key)
            last = len(self._row_of)
            if row != last:
                block, at = divmod(last, BLOCK_ROWS)
                moved = int(self._blocks[block].keys[at])
                self._row_of[moved] = row
                self._write(row, moved, self._blocks[block].vectors[at])
            if last % BLOCK_ROWS == 0:
                self._blocks.pop()

    def vectors(self, keys: Keys) -> Vectors:
        """Copies, in the order of `keys`.

        Raises:
            KeyError: one is not there.
        """
        rows = np.fromiter((self._row_of[key] for key in keys.tolist()), np.int64, len(keys))
        found = np.empty((len(rows), self.dim), np.float32)
        for number in np.unique(rows // BLOCK_ROWS):
            here = rows // BLOCK_ROWS == number
            found[here] = self._blocks[number].vectors[rows[here] % BLOCK_ROWS]
        return found

    def present(self, keys: Keys) -> Keys:
        """Those of `keys` that are there, each once."""
        there = self._row_of.keys() & set(keys.tolist())
        return np.sort(np.fromiter(there, np.int64, len(there)))

    def _write(self, row: int, key: int, vector: Vectors) -> None:
        number, at = divmod(row, BLOCK_ROWS)
        block = self._room(number, at)
        block.vectors[at] = vector
        block.keys[at] = key
        self._note(key)

    def _room(self, number: int, at: int) -> Block:
        """Only the last block grows, by doubling, up to its full size."""
        if number == len(self._blocks):
            self._blocks.append(_empty(min(FIRST_ROWS, BLOCK_ROWS), self.dim))
        block = self._blocks[number]
        if at >= len(block.keys):
            larger = _empty(min(2 * len(block.keys), BLOCK_ROWS), self.dim)
            larger.keys[: len(block.keys)] = block.keys
            larger.vectors[: len(block.keys)] = block.vectors
            self._blocks[number] = block = larger
        return block

    def _note(self, key: int) -> None:
        if self.changed is not None:
            self.changed.add(key)


def _empty(rows: int, dim: int) -> Block:
    return Block(np.full(rows, NO_KEY, np.int64), np.empty((rows, dim), np.float32))

"""An index that grows and shrinks around a trained one, which does neither.

What is added goes into a flat index beside it, what is deleted is excluded inside its search, and
when either becomes much, a fresh one is trained in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.embedder import Vectors
from serving.retrieval.index import Index, Keys, Kind, Nearest, Rebuild, merged, nearest_of
from serving.retrieval.rows import Block

Mask = NDArray[np.bool_]  # [rows]
RowNumbers = NDArray[np.int64]
ADDED_SHARE = 0.10  # of the trained rows; more are scanned too slowly
DELETED_SHARE = 0.20  # more are walked past too often
SLICE = 256  # changes that a rebuild takes over at a time
READ_ROWS = 8_192  # at a time, for a rebuild
EXACT_ROWS = 20_000  # so few allowed rows are compared one by one, exactly


class Flat(Index, Protocol):
    """An exact index that can be read while it changes."""

    @property
    def dim(self) -> int: ...

    def present(self, keys: Keys) -> Keys:
        """Those of `keys` that are there, each once, ascending."""
        ...

    def frozen(self, changed: set[int]) -> Sequence[Block]:
        """The rows of now, for another thread to read. Every key whose row is written from now on
        is put into `changed`: what was read of it may be torn."""
        ...


class Trained(Protocol):
    """Rows 0 to n−1, for ever. Several threads may read."""

    def search(self, queries: Vectors, k: int, among: Mask | None) -> Nearest:
        """The k nearest rows, their numbers as keys; only where `among` is true."""
        ...

    def vectors(self, rows: RowNumbers) -> Vectors: ...


class Segment:
    """A trained index with its rows' keys, and which of them still count."""

    def __init__(self, kind: Kind, keys: Keys, trained: Trained) -> None:
        """`keys` ascend."""
        self.kind = kind
        self.trained = trained
        self._keys = keys
        self._alive: Mask = np.ones(len(keys), np.bool_)
        self._living = len(keys)

    def __len__(self) -> int:
        return self._living

    @property
    def deleted_share(self) -> float:
        return 1 - self._living / len(self._keys)

    def find(self, keys: Keys) -> tuple[Mask, RowNumbers]:
        """Which of `keys` are here and count, and the rows of these."""
        rows = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        here = (self._keys[rows] == keys) & self._alive[rows]
        return here, rows[here]

    def remove(self, keys: Keys) -> None:
        rows = np.unique(self.find(keys)[1])
        self._alive[rows] = False
        self._living -= len(rows)

    def search(self, queries: Vectors, k: int, allowed: Keys | None) -> Nearest:
        if allowed is None:
            among = self._alive if self._living < len(self._keys) else None
            return self._search(queries, k, among)
        rows = np.unique(self.find(allowed)[1])
        if len(rows) <= EXACT_ROWS:
            return nearest_of(queries @ self.trained.vectors(rows).T, self._keys[rows], k)
        among = np.zeros(len(self._keys), np.bool_)
        among[rows] = True
        return self._search(queries, k, among)

    def _search(self, queries: Vectors, k: int, among: Mask | None) -> Nearest:
        found = self.trained.search(queries, k, among)
        return Nearest(found.scores, np.where(found.keys < 0, found.keys, self._keys[found.keys]))

    def living(self) -> tuple[Keys, RowNumbers]:
        rows = np.flatnonzero(self._alive)
        return self._keys[rows], rows


class SegmentedIndex:
    """Implements `Index`: exact while it is small, then a trained segment and what was added
    since. `choose` says which kind suits a number of rows, `train` makes it."""

    def __init__(
        self,
        flat: Callable[[], Flat],
        choose: Callable[[int], Kind],
        train: Callable[[Kind, Vectors], Trained],
    ) -> None:
        self.flat = flat
        self.choose = choose
        self.train = train
        self.segment: Segment | None = None
        self.added = flat()
        self.changed: set[int] | None = None  # keys since a rebuild began

    def __len__(self) -> int:
        return len(self.added) + (len(self.segment) if self.segment else 0)

    @property
    def kind(self) -> Kind:
        return self.segment.kind if self.segment else "flat"

    def add(self, keys: Keys, vectors: Vectors) -> None:
        self._replace(keys)
        self.added.add(keys, vectors)

    def remove(self, keys: Keys) -> None:
        self._replace(keys)
        self.added.remove(keys)

    def _replace(self, keys: Keys) -> None:
        if self.segment:
            self.segment.remove(keys)
        if self.changed is not None:
            self.changed.update(keys.tolist())

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        parts = [self.added.search(queries, k, allowed)]
        if self.segment:
            parts.append(self.segment.search(queries, k, allowed))
        return merged(parts, k)

    def vectors(self, keys: Keys) -> Vectors:
        if not self.segment:
            return self.added.vectors(keys)
        here, rows = self.segment.find(keys)
        found = np.empty((len(keys), self.added.dim), np.float32)
        found[here] = self.segment.trained.vectors(rows)
        found[~here] = self.added.vectors(keys[~here])
        return found

    def present(self, keys: Keys) -> Keys:
        """Those of `keys` that are there, each once."""
        added = self.added.present(keys)
        if not self.segment:
            return added
        return np.union1d(added, keys[self.segment.find(keys)[0]])

    def stale(self) -> bool:
        """When another kind suits better, or too much was added or deleted. It goes back to flat
        at half the size at which it left it, so that a store at the border does not swing."""
        wanted = self.choose(len(self))
        if not self.segment:
            return wanted != "flat"
        if wanted != self.kind:
            return wanted != "flat" or self.choose(2 * len(self)) == "flat"
        return (
            len(self.added) > ADDED_SHARE * len(self.segment)
            or self.segment.deleted_share > DELETED_SHARE
        )

    def rebuild(self) -> Rebuild:
        return SegmentRebuild(self)


class SegmentRebuild:
    """Implements `Rebuild`. While it runs it needs memory for two more copies of the vectors."""

    def __init__(self, index: SegmentedIndex) -> None:
        self._index = index
        self._fresh = SegmentedIndex(index.flat, index.choose, index.train)
        self._changed = index.changed = set[int]()
        self._segment = index.segment
        self._living = index.segment.living() if index.segment else None
        self._added = index.added.frozen(self._changed)
        self._kind = index.choose(len(index))

    def run(self) -> None:
        keys = np.concatenate([np.zeros(0, np.int64), *self._keys()])
        if not len(keys):
            return
        places = np.empty(len(keys), np.int64)
        places[np.argsort(keys)] = np.arange(len(keys))  # where each row goes, by ascending key
        vectors, first = np.empty((len(keys), self._index.added.dim), np.float32), 0
        for part in self._vectors():
            vectors[places[first : first + len(part)]] = part
            first += len(part)
        self._make(np.sort(keys), vectors)

    def _keys(self) -> Iterator[Keys]:
        yield from (block.keys for block in self._added)
        if self._living:
            yield self._living[0]

    def _vectors(self) -> Iterator[Vectors]:
        """In the order of `_keys`, some rows at a time."""
        yield from (block.vectors for block in self._added)
        if self._segment and self._living:
            _, rows = self._living
            for first in range(0, len(rows), READ_ROWS):
                yield self._segment.trained.vectors(rows[first : first + READ_ROWS])

    def _make(self, keys: Keys, vectors: Vectors) -> None:
        if self._kind == "flat":
            self._fresh.added.add(keys, vectors)
        else:
            trained = self._index.train(self._kind, vectors)
            self._fresh.segment = Segment(self._kind, keys, trained)

    def catch_up(self) -> bool:
        self._take_over([self._changed.pop() for _ in range(min(SLICE, len(self._changed)))])
        return len(self._changed) > SLICE

    def swap(self) -> None:
        self._take_over(list(self._changed))
        index, fresh = self._index, self._fresh
        index.segment, index.added, index.changed = fresh.segment, fresh.added, None

    def _take_over(self, changed: list[int]) -> None:
        keys = np.array(changed, np.int64)
        still = self._index.present(keys)
        self._fresh.remove(keys)
        self._fresh.add(still, self._index.vectors(still))

"""The seam to vector search: keys and unit vectors, nearest by inner product.

`faiss_index.py` and `segmented_index.py` are the real ones; `ExactIndex` here is their oracle, and
searches the documents that come inside a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.embedder import Vectors

Kind = Literal["flat", "ivf", "hnsw", "cagra"]
Keys = NDArray[np.int64]
NO_KEY = -1


class Nearest(NamedTuple):
    """Per query, best first. Where there are fewer than k: key -1, score -inf."""

    scores: NDArray[np.float32]  # [queries, k]
    keys: Keys  # [queries, k]


class Rebuild(Protocol):
    """A fresh index, made beside the old one, which goes on changing and answering."""

    def run(self) -> None:
        """The long part, for any thread but the owner's."""
        ...

    def catch_up(self) -> bool:
        """For the owner, a moment's work: takes over some of what changed meanwhile. Whether there
        is more than another moment's work left."""
        ...

    def swap(self) -> None:
        """For the owner: takes over the rest; from here on the fresh one answers."""
        ...


class Index(Protocol):
    """Owned by one thread."""

    def __len__(self) -> int: ...

    def add(self, keys: Keys, vectors: Vectors) -> None:
        """A key that is there already gets the new vector; of equal keys the last counts."""
        ...

    def remove(self, keys: Keys) -> None:
        """Removing what is not there is harmless."""
        ...

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        """The k best among `allowed`, or among all."""
        ...

    def vectors(self, keys: Keys) -> Vectors:
        """The stored vectors of keys that are there."""
        ...

    def stale(self) -> bool:
        """Whether a fresh one would be faster: time for `rebuild`. Reads sizes alone, so any
        thread may ask."""
        ...

    def rebuild(self) -> Rebuild:
        """Begins one; only one at a time."""
        ...


class ExactIndex:
    """A dictionary and one matrix product; never stale."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._rows: dict[int, Vectors] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, keys: Keys, vectors: Vectors) -> None:
        self._rows.update(zip(keys.tolist(), vectors, strict=True))

    def remove(self, keys: Keys) -> None:
        for key in keys.tolist():
            self._rows.pop(key, None)

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        wanted = self._rows if allowed is None else self._rows.keys() & set(allowed.tolist())
        keys = np.array(sorted(wanted), np.int64)
        scores = queries @ self.vectors(keys).T
        return nearest_of(scores, keys, k)

    def vectors(self, keys: Keys) -> Vectors:
        rows = [self._rows[key] for key in keys.tolist()]
        return np.stack(rows) if rows else np.zeros((0, self._dim), np.float32)

    def stale(self) -> bool:
        return False

    def rebuild(self) -> Rebuild:
        return NothingToRebuild()


class NothingToRebuild:
    """For an index that keeps no rubbish."""

    def run(self) -> None:
        return

    def catch_up(self) -> bool:
        return False

    def swap(self) -> None:
        return


def nearest_of(scores: NDArray[np.float32], keys: Keys, k: int) -> Nearest:
    """The k best of each row of `scores` [queries, n]; `keys` is of that shape, or [n]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    chosen = keys[best] if keys.ndim == 1 else np.take_along_axis(keys, best, axis=1)
    return padded(np.take_along_axis(scores, best, axis=1), chosen, k)


def merged(parts: Sequence[Nearest], k: int) -> Nearest:
    """The k best of all parts."""
    if len(parts) == 1 and parts[0].keys.shape[1] == k:
        return parts[0]
    scores = np.concatenate([part.scores for part in parts], axis=1)
    return nearest_of(scores, np.concatenate([part.keys for part in parts], axis=1), k)


def nothing(queries: int, k: int) -> Nearest:
    return padded(np.zeros((queries, 0), np.float32), np.zeros((queries, 0), np.int64), k)


def padded(scores: NDArray[np.float32], keys: Keys, k: int) -> Nearest:
    """Fills up to k columns."""
    if scores.shape[1] == k:
        return Nearest(scores.astype(np.float32, copy=False), keys.astype(np.int64, copy=False))
    missing = ((0, 0), (0, k - keys.shape[1]))
    return Nearest(
        np.pad(scores, missing, constant_values=-np.inf).astype(np.float32),
        np.pad(keys, missing, constant_values=NO_KEY).astype(np.int64),
    )


def last_of_each(keys: Keys, vectors: Vectors) -> tuple[Keys, Vectors]:
    """Without the earlier ones of equal keys."""
    rows = list({key: row for row, key in enumerate(keys.tolist())}.values())
    return keys[rows], vectors[rows]

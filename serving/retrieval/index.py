"""The seam to vector search: keys and unit vectors, nearest by inner product.

`faiss_index.py` is the real one; `ExactIndex` here is its oracle, and searches the documents that
come inside a request.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.embedder import Vectors

Keys = NDArray[np.int64]
NO_KEY = -1


class Nearest(NamedTuple):
    """Per query, best first. Where there are fewer than k: key -1, score -inf."""

    scores: NDArray[np.float32]  # [queries, k]
    keys: Keys  # [queries, k]


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


class ExactIndex:
    """A dictionary and one matrix product."""

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
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return padded(np.take_along_axis(scores, best, axis=1), keys[best], k)

    def vectors(self, keys: Keys) -> Vectors:
        rows = [self._rows[key] for key in keys.tolist()]
        return np.stack(rows) if rows else np.zeros((0, self._dim), np.float32)


def padded(scores: NDArray[np.float32], keys: Keys, k: int) -> Nearest:
    """Fills up to k columns."""
    missing = ((0, 0), (0, k - keys.shape[1]))
    return Nearest(
        np.pad(scores, missing, constant_values=-np.inf).astype(np.float32),
        np.pad(keys, missing, constant_values=NO_KEY).astype(np.int64),
    )


def last_of_each(keys: Keys, vectors: Vectors) -> tuple[Keys, Vectors]:
    """Without the earlier ones of equal keys."""
    rows = list({key: row for row, key in enumerate(keys.tolist())}.values())
    return keys[rows], vectors[rows]

"""The seam to the sentence model: texts become unit vectors.

`minilm_embedder.py` is the real one; `HashingEmbedder` here is the exact small one.
"""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # [n, dim]


class Embedder(Protocol):
    """`name` identifies the vectors: those of different names must never be compared."""

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit row per text, in order. Safe in any thread."""
        ...


class HashingEmbedder:
    """A bag of hashed words and their stems' first letters; knows no meaning, needs no model."""

    def __init__(self, dim: int = 256) -> None:
        self.name = f"hashing-{dim}"
        self.dim = dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()):
                row[zlib.crc32(word.encode()) % self.dim] += 1.0
                row[zlib.crc32(b"^" + word[:4].encode()) % self.dim] += 0.5
        return unit(rows)


class RememberingEmbedder:
    """Remembers the vectors of the texts seen last: queries and documents sent again."""

    def __init__(self, embedder: Embedder, capacity: int) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self._embedder = embedder
        self._capacity = capacity
        self._known: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, self._embedder.embed(missing), strict=True))
        self._remember(texts, found)
        return np.stack([found[text] for text in texts]) if texts else _none(self.dim)

    def _remember(self, texts: Sequence[str], vectors: dict[str, Vectors]) -> None:
        with self._lock:
            for text in texts:
                self._known[text] = vectors[text]
                self._known.move_to_end(text)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)


def unit(rows: Vectors) -> Vectors:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1, lengths), np.float32)


def _none(dim: int) -> Vectors:
    return np.zeros((0, dim), np.float32)

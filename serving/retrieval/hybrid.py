"""Ranks for a batch of searches over shelves: dense and lexical candidates, fused and scored.

What is done with one search alone, and may take its time, is in `refinement.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from serving.retrieval.duplicates import without_duplicates
from serving.retrieval.embedder import Embedder, Vectors
from serving.retrieval.filters import Keep
from serving.retrieval.fusion import EVENLY, Weights, evidence_score, fuse
from serving.retrieval.index import NO_KEY, Keys
from serving.retrieval.shelf import Shelf
from serving.types import Passage


@dataclass(frozen=True, slots=True)
class Place:
    """A shelf to search, which of its files, and how its two rankings are weighed."""

    shelf: Shelf
    keep: Keep | None = None
    weights: Weights = EVENLY


@dataclass(frozen=True, slots=True)
class Job:
    """`limit` passages at most, none with a score below `score_threshold`. `vector` is the query's
    where somebody has embedded it already."""

    query: str
    limit: int
    places: tuple[Place, ...]
    score_threshold: float = 0.0
    vector: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One search's hits, best first: each passage with its shelf and its key there."""

    hits: tuple[RankedHit, ...]
    query_embedding: tuple[float, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedHit:
    passage: Passage
    shelf: Shelf
    key: int


Hit = tuple[int, int]  # the place's number in the job, the chunk's key


def rank(jobs: Sequence[Job], embedder: Embedder, candidates: int) -> list[Ranked]:
    """One `Ranked` per job. The model and each index run once for the whole batch."""
    timer = _Timer()
    vectors = _vectors(jobs, embedder)
    timer.stage("embed")
    allowed = [[_allowed(place) for place in job.places] for job in jobs]
    dense = _dense(jobs, vectors, allowed, candidates)
    timer.stage("dense")
    ranked = []
    for job, vector, hits, keys in zip(jobs, vectors, dense, allowed, strict=True):
        one = timer.copy()
        lexical = _lexical(job, hits, keys, _depth(job, candidates))
        one.stage("lexical")
        fused = _fused(job, vector, hits, lexical)
        one.stage("fuse")
        ranked.append(Ranked(fused, tuple(vector.tolist()), one.timings_ms))
        timer.restart()
    return ranked


def _vectors(jobs: Sequence[Job], embedder: Embedder) -> Vectors:
    embedded = iter(embedder.embed([job.query for job in jobs if job.vector is None]))
    return np.stack([next(embedded) if job.vector is None else job.vector for job in jobs])


def _depth(job: Job, candidates: int) -> int:
    """How many candidates each ranking gives: one that is asked for many must look further."""
    return max(candidates, job.limit)


def _allowed(place: Place) -> Keys | None:
    return None if place.keep is None else place.shelf.allowed(place.keep)


def _dense(
    jobs: Sequence[Job], vectors: Vectors, allowed: list[list[Keys | None]], candidates: int
) -> list[dict[Hit, float]]:
    """Per job its nearest. Searches without a filter over the same shelf share one call."""
    depths = [_depth(job, candidates) for job in jobs]
    hits: list[dict[Hit, float]] = [{} for _ in jobs]
    together: dict[Shelf, list[Hit]] = defaultdict(list)
    for row, job in enumerate(jobs):
        for number, place in enumerate(job.places):
            keys = allowed[row][number]
            if keys is None:
                together[place.shelf].append((row, number))
            else:
                _search(place.shelf, [(row, number)], vectors, depths[row], keys, hits)
    for shelf, askers in together.items():
        deepest = max(depths[row] for row, _ in askers)
        _search(shelf, askers, vectors, deepest, None, hits)
    return [_best(found, k) for found, k in zip(hits, depths, strict=True)]


def _search(
    shelf: Shelf,
    askers: list[Hit],
    vectors: Vectors,
    k: int,
    allowed: Keys | None,
    hits: list[dict[Hit, float]],
) -> None:
    rows = [row for row, _ in askers]
    nearest = shelf.index.search(vectors[rows], k, allowed)
    for (row, number), scores, keys in zip(askers, nearest.scores, nearest.keys, strict=True):
        for score, key in zip(scores.tolist(), keys.tolist(), strict=True):
            if key != NO_KEY:
                hits[row][number, key] = score


def _lexical(
    job: Job, dense: dict[Hit, float], allowed: list[Keys | None], k: int
) -> dict[Hit, float]:
    """BM25 of the k best by words, and of what the vectors found."""
    best: dict[Hit, float] = {}
    same: dict[Hit, float] = {}
    for number, place in enumerate(job.places):
        keys = allowed[number]
        lexical = place.shelf.lexical
        found = lexical.search(job.query, k, None if keys is None else keys.tolist())
        best |= {(number, key): bm25 for key, bm25 in found.items() if key in place.shelf.passages}
        missing = [key for at, key in dense if at == number and (at, key) not in best]
        found = lexical.search(job.query, len(missing), missing) if missing else {}
        same |= {(number, key): bm25 for key, bm25 in found.items()}
    kept = _best(best, k)
    return kept | {hit: bm25 for hit, bm25 in best.items() if hit in dense} | same


def _fused(
    job: Job, vector: Vectors, dense: dict[Hit, float], bm25: dict[Hit, float]
) -> tuple[RankedHit, ...]:
    cosines = dense | _cosines(job, vector, bm25.keys() - dense.keys())
    weights = [(place.weights.dense, place.weights.lexical) for place in job.places]
    order = fuse([cosines, bm25], lambda hit: weights[hit[0]])
    hits = (
        hit for hit in _hits(job, order, cosines, bm25) if hit.passage.score >= job.score_threshold
    )
    return tuple(without_duplicates(hits, job.limit, lambda hit: hit.passage))


def _hits(
    job: Job, order: Sequence[Hit], cosines: dict[Hit, float], bm25: dict[Hit, float]
) -> Iterator[RankedHit]:
    """As many at a time as are wanted: most searches need no more, and what words cover is the
    dear part."""
    for first in range(0, len(order), job.limit):
        some = order[first : first + job.limit]
        covered = _coverage(job, some)
        for number, key in some:
            hit, place = (number, key), job.places[number]
            passage = _passage(place, key, cosines[hit], bm25.get(hit, 0.0), covered.get(hit, 0.0))
            yield RankedHit(passage, place.shelf, key)


def _coverage(job: Job, hits: Sequence[Hit]) -> dict[Hit, float]:
    covered: dict[Hit, float] = {}
    for number, place in enumerate(job.places):
        keys = [key for at, key in hits if at == number]
        found = place.shelf.lexical.coverage(job.query, keys) if keys else {}
        covered |= {(number, key): share for key, share in found.items()}
    return covered


def _cosines(job: Job, vector: Vectors, hits: set[Hit]) -> dict[Hit, float]:
    """For what only the words found."""
    cosines: dict[Hit, float] = {}
    for number, place in enumerate(job.places):
        keys = [key for at, key in hits if at == number]
        scores = place.shelf.index.vectors(np.array(keys, np.int64)) @ vector
        cosines.update(zip(((number, key) for key in keys), scores.tolist(), strict=True))
    return cosines


def _passage(place: Place, key: int, cosine: float, bm25: float, coverage: float) -> Passage:
    passage = place.shelf.passages[key]
    return replace(
        passage,
        score=evidence_score(cosine, coverage),
        dense_score=cosine,
        lexical_score=coverage,
        bm25=bm25,
        weights=(place.weights.dense, place.weights.lexical),
        attributes=place.shelf.file(passage.file_id).attributes,
    )


def _best(hits: Mapping[Hit, float], k: int) -> dict[Hit, float]:
    return dict(sorted(hits.items(), key=lambda entry: -entry[1])[:k])


class _Timer:
    """Stage times in ms."""

    def __init__(self, timings_ms: Mapping[str, float] | None = None) -> None:
        self.timings_ms = dict(timings_ms or {})
        self.restart()

    def restart(self) -> None:
        self._began = perf_counter()

    def stage(self, name: str) -> None:
        now = perf_counter()
        self.timings_ms[name] = (now - self._began) * 1000
        self._began = now

    def copy(self) -> _Timer:
        return _Timer(self.timings_ms)

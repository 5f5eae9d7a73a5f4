"""Joins what several shards found for one search, as if one retriever had found it all.

Ranks of different shards say nothing about each other, and shares of a shard's best score little;
cosines and BM25 do. So those are fused anew, as `hybrid.py` fuses those of several stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.retrieval.duplicates import without_duplicates
from serving.retrieval.fusion import fuse
from serving.types import Found, Passage, Search

Key = tuple[str, str]  # id and text: a file in two stores may have been cut in two ways


def merge(answers: Sequence[Found], search: Search, candidates: int) -> Found:
    """The best `search.limit` passages of all.

    A cosine is the same on every shard, so by meaning the order is that of one retriever. BM25
    weighs a word by its rarity on its shard: of a split store about the same everywhere, since
    files are spread by hash. Stores that are whole have their own statistics anyway.
    """
    passages = {(p.id, p.text): p for found in answers for p in found.passages}
    ranked = _fused(passages, max(candidates, search.limit))
    if all(map(_is_reranked, answers)):
        ranked.sort(key=_by_reranker)
    best = without_duplicates(ranked, search.limit, lambda passage: passage)
    return Found(tuple(best), answers[0].query_embedding, _slowest(answers))


def _fused(passages: Mapping[Key, Passage], k: int) -> list[Passage]:
    """From the k best of either ranking, as one retriever would take them."""
    cosines = {key: p.dense_score for key, p in passages.items()}
    bm25 = {key: p.bm25 for key, p in passages.items() if p.bm25 > 0}
    kept = _best(cosines, k) | _best(bm25, k)
    rankings = [
        {key: score for key, score in ranking.items() if key in kept} for ranking in (cosines, bm25)
    ]
    return [passages[key] for key in fuse(rankings, lambda key: passages[key].weights)]


def _best(ranking: Mapping[Key, float], k: int) -> set[Key]:
    return set(sorted(ranking, key=lambda key: -ranking[key])[:k])


def _is_reranked(found: Found) -> bool:
    """Where a reranker failed on one shard, the fused order stands for all."""
    return not found.passages or any(p.rerank_score is not None for p in found.passages)


def _by_reranker(passage: Passage) -> tuple[bool, float]:
    """What it has not read comes last, in the order it has."""
    return passage.rerank_score is None, -(passage.rerank_score or 0.0)


def _slowest(answers: Sequence[Found]) -> dict[str, float]:
    """Of each stage, since the shards work at the same time."""
    slowest: dict[str, float] = {}
    for found in answers:
        for stage, took in found.timings_ms.items():
            slowest[stage] = max(took, slowest.get(stage, 0.0))
    return slowest

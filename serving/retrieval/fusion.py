"""Joins the dense and the lexical ranking, and says how good a passage is on its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
RANK_OFFSET = 60  # the usual constant: the first few ranks count about the same


def fuse(rankings: Sequence[Sequence[K]], weights: Sequence[float]) -> dict[K, float]:
    """Reciprocal-rank fusion: Σ weight / (60 + rank), best first. Only the order means anything."""
    fused: dict[K, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, item in enumerate(ranking, 1):
            fused[item] = fused.get(item, 0.0) + weight / (RANK_OFFSET + rank)
    return dict(sorted(fused.items(), key=lambda entry: -entry[1]))


def evidence_score(cosine: float, coverage: float) -> float:
    """How well one passage covers the question, in [0, 1], whatever else was found."""
    return 0.5 * min(1.0, max(0.0, cosine)) + 0.5 * coverage

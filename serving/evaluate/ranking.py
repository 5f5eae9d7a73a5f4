"""How good a ranking is against the passages that people marked as relevant."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DEPTH = 10
RESAMPLES = 2000
Measure = Callable[[Sequence[str], Collection[str]], float]


def ndcg(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain with gains 0 and 1 (Järvelin and Kekäläinen 2002)."""
    gain = sum(1 / math.log2(at + 2) for at, one in enumerate(ranked[:k]) if one in relevant)
    best = sum(1 / math.log2(at + 2) for at in range(min(k, len(relevant))))
    return gain / best


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    return len(set(ranked[:k]) & set(relevant)) / len(relevant)


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the place of the first relevant one, 0 if there is none."""
    return next((1 / at for at, one in enumerate(ranked, 1) if one in relevant), 0.0)


MEASURES: Mapping[str, Measure] = {
    "ndcg@10": lambda ranked, relevant: ndcg(ranked, relevant, 10),
    "ndcg@5": lambda ranked, relevant: ndcg(ranked, relevant, 5),
    "recall@5": lambda ranked, relevant: recall(ranked, relevant, 5),
    "recall@10": lambda ranked, relevant: recall(ranked, relevant, 10),
    "mrr": lambda ranked, relevant: reciprocal_rank(ranked[:DEPTH], relevant),
}


@dataclass(frozen=True, slots=True)
class Score:
    """A mean with its 95 % interval: the percentiles of the means of resampled questions
    (Efron's bootstrap)."""

    mean: float
    low: float
    high: float


def score(
    rankings: Sequence[Sequence[str]], relevant: Sequence[Collection[str]]
) -> dict[str, Score]:
    """Every measure over all questions, of which each must have something relevant."""
    drawn = np.random.default_rng(0).integers(0, len(relevant), (RESAMPLES, len(relevant)))
    scores = {}
    for name, measure in MEASURES.items():
        values = np.array([measure(*pair) for pair in zip(rankings, relevant, strict=True)])
        low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
        scores[name] = Score(float(values.mean()), float(low), float(high))
    return scores

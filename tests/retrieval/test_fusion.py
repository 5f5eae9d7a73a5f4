"""Fusion of rankings and the score of one passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from serving.errors import InvalidRequest
from serving.retrieval import fusion
from serving.retrieval.fusion import Weights, evidence_score


def fuse(rankings: Sequence[Mapping[str, float]], weights: list[float]) -> list[str]:
    return fusion.fuse(rankings, lambda _: weights)


def test_what_both_rankings_like_comes_first() -> None:
    nothing: dict[str, float] = {}
    rankings = [{"a": 0.9, "b": 0.8, "c": 0.1}, {"d": 7.0, "b": 6.0}]
    assert fuse(rankings, [1, 1])[0] == "b"
    assert fuse([{"a": 0.9, "b": 0.8}, nothing], [1, 1]) == ["a", "b"]
    assert fuse([nothing, nothing], [1, 1]) == []


def test_weights_decide_between_disagreeing_rankings() -> None:
    rankings = [{"a": 1.0, "b": 0.5}, {"b": 20.0, "a": 10.0}]
    assert fuse(rankings, [2, 1]) == ["a", "b"]
    assert fuse(rankings, [1, 2]) == ["b", "a"]


def test_scales_do_not_matter() -> None:
    assert fuse([{"a": 0.9, "b": 0.8}, {"b": 2e6, "a": 1e6}], [1, 1]) == ["b", "a"]


def test_negative_cosines_neither_help_nor_harm() -> None:
    assert fuse([{"a": -0.1, "b": -0.2}, {"b": 1.0}], [1, 1]) == ["b", "a"]
    assert fuse([{"a": 0.02, "b": -0.9, "c": 0.01}, {"b": 1.0}], [1, 1]).index("b") < 2


def test_a_score_stays_between_0_and_1() -> None:
    assert evidence_score(-0.3, 0.0) == 0.0
    assert evidence_score(1.0, 1.0) == pytest.approx(1.0)
    assert evidence_score(0.6, 0.8) > evidence_score(0.6, 0.2) > evidence_score(0.2, 0.2)


def test_what_only_a_ranking_without_weight_found_is_left_out() -> None:
    assert fuse([{"a": 1.0, "b": 0.5}, {"c": 9.0}], [1, 0]) == ["a", "b"]
    assert fuse([{"a": 1.0, "b": 0.5}, {"c": 9.0}], [0, 1]) == ["c"]


def test_weights_are_an_items_own() -> None:
    rankings = [{"a": 1.0, "b": 0.9}, {"b": 20.0, "a": 19.0}]
    lexical_counts_in = {"a": (1.0, 0.0), "b": (0.0, 1.0)}
    assert fusion.fuse(rankings, lambda item: lexical_counts_in[item]) == ["a", "b"]


def test_weights_add_up_to_one_whatever_was_given() -> None:
    assert Weights.of(None) == Weights(0.5, 0.5)
    assert Weights.of({"dense": 3, "lexical": 1}) == Weights(0.75, 0.25)
    assert Weights.of({"lexical": 0.2}) == Weights(0.0, 1.0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dense": 0, "lexical": 0},
        {"dense": -1, "lexical": 2},
        {"dense": "1"},
        {"dense": True},
        {"dense": float("nan")},
        {"sparse": 1},
    ],
)
def test_weights_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="'dense' and 'lexical'"):
        Weights.of(given)

"""Fusion of rankings and the score of one passage."""

from __future__ import annotations

import pytest

from serving.retrieval.fusion import evidence_score, fuse


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


def test_negative_cosines_do_not_help() -> None:
    assert fuse([{"a": -0.1, "b": -0.2}, {"b": 1.0}], [1, 1]) == ["b", "a"]


def test_a_score_stays_between_0_and_1() -> None:
    assert evidence_score(-0.3, 0.0) == 0.0
    assert evidence_score(1.0, 1.0) == pytest.approx(1.0)
    assert evidence_score(0.6, 0.8) > evidence_score(0.6, 0.2) > evidence_score(0.2, 0.2)

"""Fusion of rankings and the score of one passage."""

from __future__ import annotations

import pytest

from serving.retrieval.fusion import evidence_score, fuse


def test_what_both_rankings_like_comes_first() -> None:
    assert list(fuse([["a", "b", "c"], ["c", "b", "d"]], [1, 1]))[:2] in (["b", "c"], ["c", "b"])
    assert list(fuse([["a", "b"], []], [1, 1])) == ["a", "b"]


def test_weights_decide_between_disagreeing_rankings() -> None:
    assert list(fuse([["a", "b"], ["b", "a"]], [2, 1])) == ["a", "b"]
    assert list(fuse([["a", "b"], ["b", "a"]], [1, 2])) == ["b", "a"]


def test_ranks_count_reciprocally() -> None:
    assert fuse([["a"], ["b", "a"]], [1, 1])["a"] == pytest.approx(1 / 61 + 1 / 62)


def test_a_score_stays_between_0_and_1() -> None:
    assert evidence_score(-0.3, 0.0) == 0.0
    assert evidence_score(1.0, 1.0) == pytest.approx(1.0)
    assert evidence_score(0.6, 0.8) > evidence_score(0.6, 0.2) > evidence_score(0.2, 0.2)

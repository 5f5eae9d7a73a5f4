"""Batches: every lesson once an epoch, in an order that seed and epoch alone decide."""

from __future__ import annotations

import random

import pytest

from serving.finetune.batches import batches, passes, steps

_DICE = random.Random(1)
LENGTHS = [_DICE.randint(5, 200) for _ in range(203)]


def test_every_lesson_comes_once_in_an_epoch() -> None:
    found = batches(LENGTHS, 8, seed=3, epoch=0)
    assert sorted(at for batch in found for at in batch) == list(range(203))
    assert len(found) == steps(203, 8, 1) == 26
    assert max(map(len, found)) == 8


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert batches(LENGTHS, 8, 3, 1) == batches(LENGTHS, 8, 3, 1)
    assert batches(LENGTHS, 8, 3, 1) != batches(LENGTHS, 8, 3, 2)
    assert batches(LENGTHS, 8, 3, 1) != batches(LENGTHS, 8, 4, 1)


def test_a_batch_holds_lessons_of_similar_length() -> None:
    """Against batches drawn at random, most of the padding is saved."""

    def padding(found: list[list[int]]) -> int:
        return sum(max(LENGTHS[a] for a in b) - LENGTHS[at] for b in found for at in b)

    order = random.Random(2).sample(range(203), 203)
    drawn = [order[at : at + 8] for at in range(0, 203, 8)]
    assert padding(batches(LENGTHS, 8, 3, 0)) < padding(drawn) / 3


@pytest.mark.parametrize("limit", [64, 200, 1000])
def test_a_pass_holds_no_more_tokens_than_allowed(limit: int) -> None:
    parts = passes(range(203), LENGTHS, limit)
    assert sorted(at for part in parts for at in part) == list(range(203))
    for part in parts:
        longest = max(LENGTHS[at] for at in part)
        assert len(part) == 1 or longest * len(part) <= limit

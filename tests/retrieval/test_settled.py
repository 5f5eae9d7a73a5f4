"""What is followed leaves the collector's sight, and still goes when nobody holds it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from serving.retrieval.settled import CHANGES, Settled


class Kept:
    """Something that can be held weakly."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_there_is_walked_no_more_and_is_still_freed() -> None:
    kept = [Kept() for _ in range(1_000)]
    before = len(gc.get_objects())
    Settled().follow(CHANGES)
    assert len(gc.get_objects()) <= before - 1_000
    gone = weakref.ref(kept[0])
    kept.clear()
    assert gone() is None


def test_garbage_is_collected_first() -> None:
    ring = Kept()
    ring.itself = ring  # type: ignore[attr-defined]
    gone = weakref.ref(ring)
    del ring
    Settled().follow(0, at_once=True)
    assert gone() is None


def test_a_few_changes_are_not_worth_it() -> None:
    settled = Settled(seq=500)
    frozen = gc.get_freeze_count()
    settled.follow(500 + CHANGES - 1)
    assert gc.get_freeze_count() == frozen
    settled.follow(500 + CHANGES)
    assert gc.get_freeze_count() > frozen

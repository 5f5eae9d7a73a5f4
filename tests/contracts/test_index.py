"""What holds for every `Index`: the same keys and scores as the exact one."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np
import pytest

from serving.retrieval.embedder import Vectors, unit
from serving.retrieval.faiss_index import REBUILD_AT, AppendOnlyFaissIndex, FaissIndex
from serving.retrieval.index import NO_KEY, ExactIndex, Index, Keys, Nearest

DIM = 24
Make = Callable[[], Index]


def append_only() -> Index:
    """As on a GPU: FAISS's flat CPU index has the same methods."""
    return AppendOnlyFaissIndex(faiss.IndexFlatIP(DIM))


@pytest.fixture(params=[lambda: ExactIndex(DIM), lambda: FaissIndex(DIM), append_only])
def index(request: pytest.FixtureRequest) -> Index:
    made: Index = request.param()
    return made


@pytest.fixture
def exact() -> ExactIndex:
    return ExactIndex(DIM)


def vectors(count: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32))


def keys(*values: int) -> Keys:
    return np.array(values, np.int64)


def same(found: Nearest, expected: Nearest) -> None:
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 7, 64])
def test_finds_what_the_exact_one_finds(index: Index, exact: ExactIndex, queries: int) -> None:
    rows = vectors(500)
    for one in (index, exact):
        one.add(np.arange(10, 510), rows)
    asked = vectors(queries, seed=1)
    same(index.search(asked, 10), exact.search(asked, 10))


def test_a_vector_finds_itself_with_score_1(index: Index) -> None:
    rows = vectors(3)
    index.add(keys(7, 8, 2**40), rows)
    found = index.search(rows, 1)
    assert found.keys.ravel().tolist() == [7, 8, 2**40]
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-5)


def test_what_is_removed_is_not_found(index: Index, exact: ExactIndex) -> None:
    rows = vectors(50)
    for one in (index, exact):
        one.add(np.arange(50), rows)
        one.remove(np.arange(0, 50, 2))
        one.remove(keys(0, 999))
    assert len(index) == 25
    same(index.search(rows, 5), exact.search(rows, 5))


def test_removing_many_leaves_the_rest(index: Index, exact: ExactIndex) -> None:
    rows = vectors(REBUILD_AT + 50)
    for one in (index, exact):
        one.add(np.arange(len(rows)), rows)
        one.remove(np.arange(REBUILD_AT + 10))
        one.add(keys(3), rows[:1])
    same(index.search(rows[:5], 20), exact.search(rows[:5], 20))


def test_a_key_added_again_has_the_new_vector(index: Index) -> None:
    rows = vectors(3)
    index.add(keys(1, 1, 2), rows)
    index.add(keys(2), rows[:1])
    assert len(index) == 2
    np.testing.assert_allclose(index.vectors(keys(2, 1)), rows[:2], atol=1e-6)
    assert index.search(rows[:1], 1).keys.tolist() == [[2]]


def test_a_filter_limits_the_search_itself(index: Index, exact: ExactIndex) -> None:
    rows = vectors(200)
    for one in (index, exact):
        one.add(np.arange(200), rows)
    allowed = keys(3, 77, 150, 999)
    found = index.search(rows[:4], 5, allowed)
    same(found, exact.search(rows[:4], 5, allowed))
    assert (found.keys[:, 3:] == NO_KEY).all()
    assert (index.search(rows[:1], 2, keys()).keys == NO_KEY).all()


def test_missing_results_are_padded(index: Index, exact: ExactIndex) -> None:
    rows = vectors(2)
    same(index.search(rows, 4), exact.search(rows, 4))
    for one in (index, exact):
        one.add(keys(5, 6), rows)
    found = index.search(rows, 4)
    same(found, exact.search(rows, 4))
    assert found.keys.shape == (2, 4)
    assert (found.keys[:, 2:] == NO_KEY).all() and np.isneginf(found.scores[:, 2:]).all()


def test_an_emptied_index_takes_vectors_again(index: Index) -> None:
    rows = vectors(2)
    index.add(keys(1, 2), rows)
    index.remove(keys(1, 2))
    assert len(index) == 0
    assert index.search(rows, 1).keys.tolist() == [[NO_KEY], [NO_KEY]]
    index.add(keys(3), rows[:1])
    assert index.search(rows[:1], 1).keys.tolist() == [[3]]


def test_no_vectors_are_asked_for(index: Index) -> None:
    assert index.vectors(keys()).shape == (0, DIM)

"""What holds for every `Index`: the keys and scores of the exact one; of the approximate kinds at
full breadth the same, at the breadth of the settings a stated share of the keys."""

from __future__ import annotations

import threading
from collections.abc import Callable

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.retrieval import bfloat_scan, rows, segmented_index
from serving.retrieval.embedder import Vectors, unit
from serving.retrieval.faiss_index import (
    REBUILD_AT,
    AppendOnlyIndex,
    FlatIndex,
    gpu_flat,
    has_gpu,
)
from serving.retrieval.faiss_trained import Breadth, train_gpu_ivf, train_hnsw, train_ivf
from serving.retrieval.index import NO_KEY, ExactIndex, Index, Keys, Kind, Nearest, Rebuild
from serving.retrieval.segmented_index import SegmentedIndex, Trained

DIM = 24
FULL = Breadth(nprobe=10_000, ef=2_000)
DEFAULT = Breadth()
MANY = 6_000
RECALL_AT_10 = {"ivf": 0.95, "hnsw": 0.95, "gpu ivf": 0.95}  # of clustered vectors, by `Breadth()`
Make = Callable[[], Index]
Train = Callable[[Vectors, Breadth], Trained]


def append_only() -> AppendOnlyIndex:
    """As on a GPU: FAISS's flat CPU index has the same methods."""
    return AppendOnlyIndex(faiss.IndexFlatIP(DIM))


def train_on_cpu(kind: Kind) -> Train:
    train = train_ivf if kind == "ivf" else train_hnsw
    return lambda vectors, breadth: train(vectors, breadth, 1)


class Settled(SegmentedIndex):
    """Trained whatever the size, and again before it is asked: what is tested is never flat."""

    def __init__(self, train: Train, breadth: Breadth = FULL, *, on_gpu: bool = False) -> None:
        super().__init__(
            lambda: gpu_flat(DIM) if on_gpu else FlatIndex(DIM),
            choose=lambda count: "ivf" if count else "flat",
            train=lambda kind, vectors: train(vectors, breadth),
        )

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        if len(self.added):
            rebuild = self.rebuild()
            rebuild.run()
            rebuild.swap()
        return super().search(queries, k, allowed)


ON_CPU: dict[str, Make] = {
    "exact": lambda: ExactIndex(DIM),
    "flat": lambda: FlatIndex(DIM),
    "flat by bfloat": lambda: FlatIndex(DIM, 1, bfloat_scan.nearest),
    "append only": append_only,
    "ivf": lambda: Settled(train_on_cpu("ivf")),
    "hnsw": lambda: Settled(train_on_cpu("hnsw")),
}
ON_GPU: dict[str, Make] = {
    "gpu flat": lambda: gpu_flat(DIM),
    "gpu ivf": lambda: Settled(train_gpu_ivf, on_gpu=True),
}
gpu = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="FAISS finds no GPU")]
KINDS = [pytest.param(make, id=name) for name, make in ON_CPU.items()] + [
    pytest.param(make, id=name, marks=gpu) for name, make in ON_GPU.items()
]


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Index:
    """With blocks so small that there are several, and no filter so small that it is exact."""
    monkeypatch.setattr(rows, "BLOCK_ROWS", 128)
    monkeypatch.setattr(segmented_index, "EXACT_ROWS", 2)
    monkeypatch.setattr(bfloat_scan, "FEWEST_ROWS", 1)
    monkeypatch.setattr(bfloat_scan, "FEWEST_QUERIES", 1)
    monkeypatch.setattr(bfloat_scan, "GROUP", 2)
    made: Index = request.param()
    return made


@pytest.fixture
def exact() -> ExactIndex:
    return ExactIndex(DIM)


def vectors(count: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32))


def clustered(count: int, seed: int) -> Vectors:
    """Around 60 centres, as texts are around subjects."""
    chance = np.random.default_rng(seed)
    centres = vectors(60, seed=99)[chance.integers(60, size=count)]
    return unit((centres + 0.15 * chance.normal(size=(count, DIM))).astype(np.float32))


def keys(*values: int) -> Keys:
    return np.array(values, np.int64)


def same(found: Nearest, expected: Nearest) -> None:
    """Half precision, on GPU, moves a score by less than a thousandth, and may swap two."""
    tolerance = 1e-3 if has_gpu() else 1e-5
    np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
    if not has_gpu():
        np.testing.assert_array_equal(found.keys, expected.keys)


def recall(found: Nearest, expected: Nearest) -> float:
    hits = [np.isin(f, e).mean() for f, e in zip(found.keys, expected.keys, strict=True)]
    return float(np.mean(hits))


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
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-3)


def test_what_is_removed_is_not_found(index: Index, exact: ExactIndex) -> None:
    rows = vectors(300)
    for one in (index, exact):
        one.add(np.arange(300), rows)
        one.search(rows[:1], 1)
        one.remove(np.arange(0, 300, 2))
        one.remove(keys(0, 0, 999))
    assert len(index) == 150
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
    assert index.search(rows[1:2], 1).keys.tolist() == [[1]]
    index.add(keys(2), rows[:1])
    assert len(index) == 2
    np.testing.assert_allclose(index.vectors(keys(2, 1)), rows[:2], atol=1e-3)
    assert index.search(rows[:1], 1).keys.tolist() == [[2]]


@pytest.mark.parametrize("step", [50, 3, 1], ids=["few", "a third", "all"])
def test_a_filter_limits_the_search_itself(index: Index, exact: ExactIndex, step: int) -> None:
    rows = vectors(600)
    for one in (index, exact):
        one.add(np.arange(600), rows)
    allowed = np.append(np.arange(0, 600, step), 999)
    same(index.search(rows[:4], 15, allowed), exact.search(rows[:4], 15, allowed))


def test_a_filter_far_from_the_query_still_finds_k(index: Index, exact: ExactIndex) -> None:
    rows = clustered(900, seed=5)
    order = np.argsort(rows @ rows[0])
    for one in (index, exact):
        one.add(np.arange(900), rows)
    allowed = order[:300]  # the farthest third
    same(index.search(rows[:1], 20, allowed), exact.search(rows[:1], 20, allowed))


def test_a_filter_that_lets_few_or_none_through(index: Index, exact: ExactIndex) -> None:
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
    index.search(rows, 1)
    index.remove(keys(1, 2))
    assert len(index) == 0
    assert index.search(rows, 1).keys.tolist() == [[NO_KEY], [NO_KEY]]
    index.add(keys(3), rows[:1])
    assert index.search(rows[:1], 1).keys.tolist() == [[3]]


def test_no_vectors_are_asked_for(index: Index) -> None:
    assert index.vectors(keys()).shape == (0, DIM)


def end(rebuild: Rebuild, *, gradually: bool) -> None:
    rebuild.run()  # reads rows that have changed since
    if gradually:
        rebuild.catch_up()
    rebuild.swap()


Step = tuple[str, list[int]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "begin", "end", "search"]),
        st.lists(st.integers(0, 40), max_size=12),
    ),
    max_size=25,
)


@pytest.mark.parametrize("make", [lambda: FlatIndex(DIM), append_only], ids=["flat", "append only"])
@pytest.mark.parametrize("train", [train_on_cpu("ivf"), train_on_cpu("hnsw")], ids=["ivf", "hnsw"])
@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_any_history_ends_as_the_exact_one_does(
    make: Callable[[], FlatIndex], train: Train, steps: list[Step]
) -> None:
    """Adds, replacements and deletions before, during and after rebuilds."""
    index = SegmentedIndex(
        make,
        choose=lambda count: "ivf" if count else "flat",
        train=lambda kind, vectors: train(vectors, FULL),
    )
    exact = ExactIndex(DIM)
    rebuild = None
    pool, asked = vectors(300), vectors(2, seed=1)
    for number, (word, chosen) in enumerate(steps):
        if word == "add":
            added = pool[12 * number :][: len(chosen)]  # no vector twice: no equal scores
            for one in (index, exact):
                one.add(keys(*chosen), added)
        elif word == "remove":
            for one in (index, exact):
                one.remove(keys(*chosen))
        elif word == "begin" and rebuild is None:
            rebuild = index.rebuild()
        elif word == "end" and rebuild is not None:
            end(rebuild, gradually=bool(chosen))
            rebuild = None
        allowed = keys(*chosen) if word == "search" else None
        assert len(index) == len(exact)
        same(index.search(asked, 5, allowed), exact.search(asked, 5, allowed))
    there = index.present(np.arange(41))
    np.testing.assert_allclose(index.vectors(there), exact.vectors(there), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "train"),
    [
        ("ivf", train_on_cpu("ivf")),
        ("hnsw", train_on_cpu("hnsw")),
        pytest.param("gpu ivf", train_gpu_ivf, marks=gpu),
    ],
)
@pytest.mark.parametrize("state", ["fresh", "changed", "filtered"])
def test_the_default_breadth_finds_most(kind: str, train: Train, state: str) -> None:
    index = Settled(train, DEFAULT, on_gpu=kind.startswith("gpu"))
    exact = ExactIndex(DIM)
    rows, asked = clustered(MANY, seed=0), clustered(50, seed=1)
    allowed = np.arange(0, MANY, 2) if state == "filtered" else None
    for one in (index, exact):
        one.add(np.arange(MANY), rows)
    index.search(asked[:1], 1)
    if state == "changed":
        for one in (index, exact):
            one.remove(np.arange(0, MANY, 7))
            one.add(np.arange(100), clustered(100, seed=2))
    found = SegmentedIndex.search(index, asked, 10, allowed)
    assert recall(found, exact.search(asked, 10, allowed)) >= RECALL_AT_10[kind]


def test_it_answers_and_changes_while_another_thread_rebuilds() -> None:
    index = SegmentedIndex(
        lambda: FlatIndex(DIM),
        choose=lambda count: "hnsw" if count else "flat",
        train=lambda kind, vectors: train_hnsw(vectors, DEFAULT, 1),
    )
    pool = clustered(MANY, seed=3)
    index.add(np.arange(MANY), pool)
    rebuild = index.rebuild()
    thread = threading.Thread(target=rebuild.run)
    thread.start()
    gone = np.arange(0, MANY, 3)
    index.remove(gone)
    index.add(keys(MANY), pool[:1])
    assert index.search(pool[:1], 1).keys.tolist() == [[MANY]]
    thread.join()
    while rebuild.catch_up():
        assert not np.isin(index.search(pool[:5], 20).keys, gone).any()
        index.remove(keys(MANY - 1))
    rebuild.swap()
    index.remove(keys(MANY - 2))
    gone = np.append(gone, [MANY - 1, MANY - 2])
    assert index.kind == "hnsw"
    assert len(index) == MANY - len(np.unique(gone)) + 1
    assert index.search(pool[:1], 1).keys.tolist() == [[MANY]]
    assert not np.isin(index.search(pool[:200], 20).keys, gone).any()


def test_when_a_fresh_one_is_due() -> None:
    index = SegmentedIndex(
        lambda: FlatIndex(DIM),
        choose=lambda count: "ivf" if count > 100 else "flat",
        train=lambda kind, vectors: train_ivf(vectors, FULL, 1),
    )

    def rebuilt() -> None:
        rebuild = index.rebuild()
        rebuild.run()
        rebuild.swap()

    index.add(np.arange(100), vectors(100))
    assert not index.stale()
    index.add(keys(100), vectors(1))
    assert index.stale()
    rebuilt()
    assert not index.stale()
    index.add(np.arange(200, 211), vectors(11))  # over a tenth
    assert index.stale()
    rebuilt()
    index.remove(np.arange(15))  # 97 left: not yet flat again
    assert not index.stale()
    index.remove(np.arange(15, 70))  # over a fifth, and under half of the border
    assert index.stale()
    rebuilt()
    assert (index.kind, len(index), index.stale()) == ("flat", 42, False)

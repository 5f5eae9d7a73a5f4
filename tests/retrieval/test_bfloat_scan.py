"""The scan by way of bfloat16 misses nothing, whatever the vectors, or says it is no help."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.retrieval_data import Corpus
from serving.retrieval.bfloat import halves, lost, wholes
from serving.retrieval.bfloat_scan import nearest
from serving.retrieval.embedder import Vectors, unit
from serving.retrieval.rows import Block, Rows

MANY, DIM, K = 9_000, 32, 20


def block_of(vectors: Vectors) -> Block:
    rows = Rows(vectors.shape[1], with_halves=True)
    rows.put(np.arange(len(vectors)), vectors)
    (block,) = rows.blocks()
    return block


def exact(vectors: Vectors, queries: Vectors, k: int) -> Vectors:
    """The k best scores, in float64."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.sort(scores, axis=1)[:, ::-1][:, :k].astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5_000, MANY),
    queries=st.integers(2, 9),
    spread=st.sampled_from([1e-3, 0.03, 0.3, 3.0]),
    length=st.sampled_from([0.01, 1.0, 50.0]),
)
def test_it_finds_the_best_of_any_vectors(
    seed: int, rows: int, queries: int, spread: float, length: float
) -> None:
    """From all nearly alike (`spread` 0.001) to all different, and of any length."""
    chance = np.random.default_rng(seed)
    centre = unit(chance.normal(size=(1, DIM)).astype(np.float32))
    made = length * (centre + spread * chance.normal(size=(rows, DIM)))
    vectors = made.astype(np.float32)
    asked = (centre + spread * chance.normal(size=(queries, DIM))).astype(np.float32)
    found = nearest(block_of(vectors), asked, K)
    if found is not None:
        np.testing.assert_allclose(found.scores, exact(vectors, asked, K), rtol=2e-5, atol=1e-6)


def test_it_is_taken_for_vectors_as_texts_have_them() -> None:
    corpus = Corpus(MANY, 384)
    vectors, asked = corpus.vectors(), corpus.questions(32)
    found = nearest(block_of(vectors), asked, K)
    assert found is not None
    np.testing.assert_allclose(found.scores, exact(vectors, asked, K), atol=1e-5)


def test_it_refuses_a_store_of_copies_of_one_text() -> None:
    corpus = Corpus(MANY, 64)
    copies = np.repeat(corpus.questions(1), MANY, axis=0)
    assert nearest(block_of(copies), corpus.questions(4), K) is None


@pytest.mark.parametrize(("rows", "queries"), [(1_000, 8), (MANY, 1)])
def test_it_leaves_small_work_to_faiss(rows: int, queries: int) -> None:
    corpus = Corpus(rows, 64)
    assert nearest(block_of(corpus.vectors()), corpus.questions(queries), K) is None


def test_a_removed_row_is_not_found_nor_in_the_way() -> None:
    corpus = Corpus(MANY, 64)
    vectors, asked = corpus.vectors(), corpus.questions(4)
    rows = Rows(64, with_halves=True)
    rows.put(np.arange(MANY), vectors)
    best = np.argsort(-(asked @ vectors.T), axis=1)[:, :300]
    gone = np.unique(best)
    rows.remove(gone)
    left = np.setdiff1d(np.arange(MANY), gone)
    (block,) = rows.blocks()
    found = nearest(block, asked, K)
    assert found is not None
    assert not np.isin(found.keys, gone).any()
    np.testing.assert_allclose(found.scores, exact(vectors[left], asked, K), atol=1e-5)


def test_rounding_is_to_the_nearest() -> None:
    import torch

    numbers = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    by_torch = torch.from_numpy(numbers).bfloat16().float().numpy()
    np.testing.assert_array_equal(wholes(halves(numbers)), by_torch)
    assert lost(numbers, halves(numbers)).max() <= 2**-8 * np.linalg.norm(numbers, axis=1).max()

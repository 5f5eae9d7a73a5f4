"""Embedders: unit rows in order, remembered, and checked weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import HashingEmbedder, RememberingEmbedder, Vectors
from serving.retrieval.minilm_embedder import MiniLmEmbedder


class Counting(HashingEmbedder):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().embed(texts)


def test_hashing_is_deterministic_and_brings_like_texts_together() -> None:
    one, same, like, other = HashingEmbedder().embed(
        ["days of leave", "days of leave", "leave days", "canteen menu"]
    )
    assert np.linalg.norm(one) == pytest.approx(1.0)
    assert one @ same == pytest.approx(1.0)
    assert one @ like > 0.5 > one @ other


def test_no_texts_make_no_rows() -> None:
    for embedder in (HashingEmbedder(), RememberingEmbedder(HashingEmbedder(), 4)):
        assert embedder.embed([]).shape == (0, embedder.dim)


def test_each_text_is_embedded_once_while_it_is_remembered() -> None:
    counting = Counting()
    remembering = RememberingEmbedder(counting, capacity=2)
    rows = remembering.embed(["a", "b", "a"])
    np.testing.assert_array_equal(rows, HashingEmbedder().embed(["a", "b", "a"]))
    remembering.embed(["a"])
    assert counting.asked == ["a", "b"]
    remembering.embed(["c"])
    remembering.embed(["b"])
    assert counting.asked == ["a", "b", "c", "b"]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RetrievalFailed, match="reinstall"):
        MiniLmEmbedder(folder=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(RetrievalFailed, match="sha256"):
        MiniLmEmbedder(folder=tmp_path)

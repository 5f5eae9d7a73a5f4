"""The retrieval benchmark: its data are like real ones, and its command runs from end to end."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtests.plot import Axis, decades, svg
from loadtests.retrieval import parse, run, write
from loadtests.retrieval_data import CHUNKS_PER_DOCUMENT, Corpus


def test_vectors_are_as_near_to_each_other_as_real_ones() -> None:
    rows = Corpus(3_000, 384).vectors()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    within = rows.reshape(-1, CHUNKS_PER_DOCUMENT, 384)
    neighbours = (within[:, 1:] * within[:, :-1]).sum(axis=2)
    assert np.median(neighbours) == pytest.approx(0.61, abs=0.04)
    assert np.median((rows[:1_500] * rows[1_500:]).sum(axis=1)) == pytest.approx(0.18, abs=0.04)


def test_questions_are_near_some_document_and_differ() -> None:
    corpus = Corpus(2_000, 64)
    nearest = (corpus.questions(50) @ corpus.vectors().T).max(axis=1)
    assert np.median(nearest) > 0.5
    texts = corpus.question_texts(50)
    assert len(set(texts)) == 50
    assert texts == corpus.question_texts(50)


def test_a_chart_places_its_points() -> None:
    x, y = Axis("recall", 0.5, 1.0), decades("ms", [0.2, 30.0])
    assert (y.low, y.high, y.ticks()) == (0.1, 100.0, [0.1, 1.0, 10.0, 100.0])
    assert [x.share(0.75), y.share(1.0)] == pytest.approx([0.5, 1 / 3])
    drawn = ET.fromstring(svg("a < b", {"flat": [(1.0, 0.2)]}, x, y))
    circle = drawn.find("{http://www.w3.org/2000/svg}circle")
    assert circle is not None and circle.get("cx") == "490.0"


async def test_the_command_writes_page_chart_and_values(tmp_path: Path) -> None:
    sizes = ["--chunks", "1200", "--dim", "16", "--seconds", "0.05", "--repeats", "2"]
    chosen = parse([*sizes, "--clients", "2", "--parts", "batching", "kinds", "gpu"])
    page = write(await run(chosen), tmp_path / "retrieval.md", tmp_path / "values.json")
    assert (tmp_path / "retrieval.md").read_text() == page
    assert "| hnsw | 64 |" in page and "batched ÷ one by one" in page
    ET.parse(tmp_path / "retrieval.svg")
    found = {
        value["name"]: value["value"]
        for value in orjson.loads((tmp_path / "values.json").read_bytes())
    }
    assert found["retrieval.recall.flat_0"] == 1.0
    assert found["retrieval.exact_vector_search_alone.clients_2.batched_over_one_by_one"] > 0

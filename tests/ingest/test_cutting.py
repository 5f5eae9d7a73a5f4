"""Cutting as the file's strategy says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from serving.ingest.cutting import cut
from serving.ingest.strategy import Strategy, strategy
from serving.retrieval.chunker import MAX_HEADING_CHARS, count_words

STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 40, "chunk_overlap_tokens": 10}}
TEXT = "# Words\n\n" + "\n\n".join(
    " ".join(f"w{line}x{n}" for n in range(9)) + "." for line in range(30)
)


def test_a_strategy_is_the_files_own_or_the_setting() -> None:
    assert strategy(STATIC, 96) == Strategy(40, 10)
    for none in (None, {}, {"type": "auto"}):
        assert strategy(none, 96) == Strategy(96)


def test_neighbours_share_the_words_of_the_overlap() -> None:
    pieces = list(cut("a.md", TEXT.encode(), Strategy(40, 10)))
    assert len(pieces) > 5
    assert all(count_words(piece.text) <= 40 for piece in pieces)
    for before, here in pairwise(pieces):
        shared = before.end - here.start
        assert shared > 0
        assert before.text[-shared:] == here.text[:shared]
        assert len(here.text[:shared].split()) == 10


def test_sections_share_nothing() -> None:
    text = b"# A\n\n## One\n\nfirst words\n\n## Two\n\nsecond words\n"
    assert [piece.text for piece in cut("a.md", text, Strategy(8, 4))] == [
        "first words",
        "second words",
    ]


def test_offsets_count_over_all_parts_of_a_large_file() -> None:
    paragraphs = [f"Paragraph number {n} stands here." for n in range(20_000)]
    whole = "\n\n".join(paragraphs)
    pieces = list(cut("big.txt", whole.encode(), Strategy(96)))
    assert all(whole[piece.start : piece.end] == piece.text for piece in pieces)
    assert sum(count_words(piece.text) for piece in pieces) == count_words(whole)


@pytest.mark.parametrize(
    "form", ["# {}\n\nbody\n", "# T\n\n## {}\n\nbody\n", "---\ntitle: {}\n---\nbody"]
)
def test_a_heading_of_a_megabyte_is_said_once_and_cut_everywhere_else(form: str) -> None:
    words = [f"w{n}" for n in range(150_000)]
    pieces = list(cut("a.md", form.format(" ".join(words)).encode(), Strategy(96)))
    assert max(len(part) for piece in pieces for part in piece.heading_path) <= MAX_HEADING_CHARS
    assert all(len(piece.title) <= MAX_HEADING_CHARS for piece in pieces)
    assert pieces[-1].heading_path[-1].endswith("…")
    assert pieces[-1].text.endswith("body")
    if not form.startswith("---"):
        said = " ".join(piece.text for piece in pieces).split()
        assert [word for word in said if word.startswith("w")] == words


def test_a_filename_that_is_a_title_is_cut() -> None:
    [piece] = cut(f"{'long ' * 400}.txt", b"body", Strategy(96))
    assert len(piece.title) <= MAX_HEADING_CHARS

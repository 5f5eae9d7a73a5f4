"""Cutting as the file's strategy says."""

from __future__ import annotations

from itertools import pairwise

from serving.ingest.cutting import cut
from serving.ingest.strategy import Strategy, strategy
from serving.retrieval.chunker import count_words

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

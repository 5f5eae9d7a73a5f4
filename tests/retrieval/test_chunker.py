"""Chunks: exact offsets, limits kept, structure respected."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.retrieval.chunker import (
    Chunk,
    Kind,
    Parsed,
    ParsedBuilder,
    chunk,
    count_words,
    parse_plain,
    searchable,
)

LIMIT = 20
texts = st.text(st.sampled_from("ab. 漢。\n\t!x-"), min_size=1, max_size=400)
blocks = st.lists(st.tuples(st.sampled_from(Kind), texts, st.integers(1, 6)), max_size=8)


def parsed(*parts: tuple[Kind, str, int]) -> Parsed:
    builder = ParsedBuilder()
    for kind, text, level in parts:
        builder.add(kind, text, level if kind is Kind.HEADING else 0)
    return builder.build(fallback_title="notes")


def sentences(count: int, words: int = 10) -> str:
    return " ".join(" ".join([f"w{n}"] * (words - 1)) + f" end{n}." for n in range(count))


@settings(max_examples=150, deadline=None)
@given(blocks)
def test_every_chunk_is_a_span_of_the_text_within_the_limit(
    parts: list[tuple[Kind, str, int]],
) -> None:
    document = parsed(*parts)
    chunks = chunk(document, LIMIT)
    for piece in chunks:
        assert document.text[piece.start : piece.end] == piece.text == piece.text.strip() != ""
        assert count_words(piece.text) <= LIMIT
    assert all(left.end <= right.start for left, right in pairwise(chunks))


@settings(max_examples=150, deadline=None)
@given(blocks)
def test_nothing_but_headings_is_left_out(parts: list[tuple[Kind, str, int]]) -> None:
    document = parsed(*parts)
    kept = "".join(piece.text for piece in chunk(document, LIMIT))
    bodies = [document.text[b.start : b.end] for b in document.blocks if b.kind is not Kind.HEADING]
    headings = [document.text[b.start : b.end] for b in document.blocks if b.kind is Kind.HEADING]
    assert count_letters(kept) >= count_letters("".join(bodies))
    assert count_letters(kept) <= count_letters("".join(bodies + headings))


def count_letters(text: str) -> int:
    return sum(1 for letter in text if not letter.isspace())


def test_a_section_of_usual_size_is_one_chunk() -> None:
    for words in range(25, 56):
        document = parsed((Kind.HEADING, "A", 1), (Kind.PARAGRAPH, sentences(1, words), 0))
        assert len(chunk(document, 96)) == 1


def test_headings_start_chunks_and_name_them() -> None:
    document = parsed(
        (Kind.HEADING, "Handbook", 1),
        (Kind.PARAGRAPH, "Welcome.", 0),
        (Kind.HEADING, "Leave", 2),
        (Kind.PARAGRAPH, "Thirty days.", 0),
        (Kind.HEADING, "Sick", 3),
        (Kind.LIST, "- call\n- rest", 0),
        (Kind.HEADING, "Pay", 2),
        (Kind.PARAGRAPH, "Monthly.", 0),
    )
    assert [(piece.heading_path, piece.text) for piece in chunk(document, 96)] == [
        (("Handbook",), "Welcome."),
        (("Handbook", "Leave"), "Thirty days."),
        (("Handbook", "Leave", "Sick"), "- call\n- rest"),
        (("Handbook", "Pay"), "Monthly."),
    ]


def test_a_heading_over_nothing_is_its_own_chunk() -> None:
    document = parsed((Kind.HEADING, "Phone: 555", 2), (Kind.HEADING, "Other", 2))
    assert [piece.text for piece in chunk(document, 96)] == ["Phone: 555", "Other"]


def test_a_title_that_is_no_heading_leads_the_path() -> None:
    assert chunk(parse_plain("Some text.", "notes"), 96) == [
        Chunk("Some text.", "notes", ("notes",), 0, 10)
    ]


def test_long_paragraphs_are_cut_at_sentences_into_equal_parts() -> None:
    pieces = chunk(parse_plain(sentences(10), "notes"), 96)
    assert [count_words(piece.text) for piece in pieces] == [50, 50]
    assert all(piece.text.endswith(".") for piece in pieces)


def test_a_list_that_fits_stays_whole() -> None:
    items = "\n".join(f"- item {n}" for n in range(6))
    document = parsed((Kind.PARAGRAPH, sentences(1), 0), (Kind.LIST, items, 0))
    assert [piece.text for piece in chunk(document, LIMIT)] == [sentences(1), items]


def test_a_table_that_does_not_fit_is_cut_between_rows() -> None:
    rows = [f"a{n} | b | c | d" for n in range(9)]
    pieces = chunk(parsed((Kind.TABLE, "\n".join(rows), 0)), LIMIT)
    assert [row for piece in pieces for row in piece.text.split("\n")] == rows


def test_scripts_without_blanks_are_measured_too() -> None:
    assert all(len(piece.text) <= LIMIT for piece in chunk(parse_plain("漢字" * 90, "n"), LIMIT))


def test_what_is_searched_has_the_headings() -> None:
    assert searchable(("Handbook", "Leave"), "Thirty days.") == "Handbook > Leave\nThirty days."


def test_a_table_that_is_cut_keeps_the_names_of_its_columns_in_every_part() -> None:
    rows = ["Plan | Price | Seats", *(f"plan{n} | {n} euros | {n} people" for n in range(8))]
    document = parsed(
        (Kind.HEADING, "Plans", 1),
        (Kind.PARAGRAPH, "What we sell.", 0),
        (Kind.TABLE, "\n".join(rows), 0),
        (Kind.PARAGRAPH, "Ask us.", 0),
    )
    before, *parts, after = chunk(document, LIMIT)
    assert (before.text, before.heading_path) == ("What we sell.", ("Plans",))
    assert (after.text, after.heading_path) == ("Ask us.", ("Plans",))
    assert len(parts) > 1
    assert {part.heading_path for part in parts} == {("Plans", "Plan | Price | Seats")}
    assert [row for part in parts for row in part.text.split("\n")] == rows


@settings(max_examples=100, deadline=None)
@given(blocks, st.integers(2, 30), st.integers(0, 30))
def test_overlapping_chunks_stay_spans_within_the_limit_and_cover_everything(
    parts: list[tuple[Kind, str, int]], limit: int, overlap: int
) -> None:
    document = parsed(*parts)
    lapping = chunk(document, limit, overlap)
    for piece in lapping:
        assert document.text[piece.start : piece.end] == piece.text
        assert count_words(piece.text) <= limit
    covered = {at for piece in lapping for at in range(piece.start, piece.end)}
    for block in document.blocks:
        if block.kind is not Kind.HEADING:
            letters = {n for n in range(block.start, block.end) if not document.text[n].isspace()}
            assert letters <= covered


def test_a_chunk_begins_with_the_end_of_the_one_before_in_its_section() -> None:
    document = parsed(
        (Kind.PARAGRAPH, "one two three. four five six. seven eight nine.", 0),
        (Kind.HEADING, "Next", 2),
        (Kind.PARAGRAPH, "ten.", 0),
    )
    assert [piece.text for piece in chunk(document, 5, 2)] == [
        "one two three.",
        "two three. four five six.",
        "five six. seven eight nine.",
        "ten.",
    ]

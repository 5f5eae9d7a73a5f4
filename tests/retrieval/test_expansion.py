"""Hits grown to their sections: the text stays a span of the source, the citation the hit's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.ingest.markdown_text import parse_markdown
from serving.retrieval.chunker import Parsed, chunk, count_words
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.expansion import expand
from serving.retrieval.hybrid import RankedHit
from serving.retrieval.index import ExactIndex
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.shelf import Shelf
from serving.types import Passage

HANDBOOK = """# Handbook

## Leave

One two three. Four five six. Seven eight nine. Ten eleven twelve.

- first item of a list
- second item of a list

## Pay

Paid monthly. Raised yearly.

## Pay

Another section of the same name.
"""
EVERYTHING = 10_000


def shelf_of(parsed: Parsed, max_words: int, first_key: int = 5) -> Shelf:
    shelf = Shelf(ExactIndex(HashingEmbedder().dim), ExactLexical())
    pieces = chunk(parsed, max_words)
    passages = {
        key: Passage(
            f"f-{key}", piece.text, "f.md", "f", piece.title, piece.heading_path, piece.start,
            piece.end, score=key / 100,
        )
        for key, piece in enumerate(pieces, first_key)
    }  # fmt: skip
    shelf.add(passages, HashingEmbedder().embed([p.text for p in passages.values()]))
    return shelf


def hits(shelf: Shelf, *keys: int) -> list[RankedHit]:
    return [RankedHit(shelf.passages[key], shelf, key) for key in keys]


def keys_with(shelf: Shelf, text: str) -> list[int]:
    return [key for key, passage in shelf.passages.items() if text in passage.text]


def without_blanks(text: str) -> str:
    return "".join(text.split())


def test_a_hit_grows_to_its_section_and_keeps_its_citation() -> None:
    parsed = parse_markdown(HANDBOOK, "handbook")
    shelf = shelf_of(parsed, max_words=4)
    [middle] = keys_with(shelf, "Seven")
    [grown] = expand(hits(shelf, middle), 3, EVERYTHING)
    hit = shelf.passages[middle]
    assert grown.text.startswith("One two three.") and grown.text.endswith("second item of a list")
    assert (grown.id, grown.score, grown.heading_path) == (hit.id, hit.score, hit.heading_path)
    assert grown.text == parsed.text[grown.start : grown.end]


def test_without_a_budget_a_hit_stays_as_it_is() -> None:
    shelf = shelf_of(parse_markdown(HANDBOOK, "handbook"), max_words=4)
    assert expand(hits(shelf, 5, 7), 3, 0) == [shelf.passages[5], shelf.passages[7]]


def test_growing_stops_at_a_section_even_of_the_same_name() -> None:
    shelf = shelf_of(parse_markdown(HANDBOOK, "handbook"), max_words=96)
    [pay] = keys_with(shelf, "Paid monthly")
    [grown] = expand(hits(shelf, pay), 3, EVERYTHING)
    assert grown == shelf.passages[pay]


def test_a_hit_inside_an_earlier_ones_section_gives_its_place_to_the_next() -> None:
    shelf = shelf_of(parse_markdown(HANDBOOK, "handbook"), max_words=4)
    [one], [ten], [pay] = (keys_with(shelf, text) for text in ("One", "Ten", "Paid"))
    grown = expand(hits(shelf, one, ten, pay), 2, EVERYTHING)
    assert [passage.id for passage in grown] == [f"f-{one}", f"f-{pay}"]


def test_the_budget_is_spent_on_the_best_first_and_never_exceeded() -> None:
    shelf = shelf_of(parse_markdown(HANDBOOK, "handbook"), max_words=4)
    [four], [paid] = keys_with(shelf, "Four"), keys_with(shelf, "Paid")
    best, other = expand(hits(shelf, four, paid), 2, 6)
    assert best.text == "One two three. Four five six. Seven eight nine."
    assert other == shelf.passages[paid]


def test_overlapping_chunks_are_joined_without_saying_anything_twice() -> None:
    parsed = parse_markdown(HANDBOOK, "handbook")
    shelf = Shelf(ExactIndex(HashingEmbedder().dim), ExactLexical())
    passages = {
        n: Passage(
            f"f-{n}", piece.text, "f.md", "f", "", piece.heading_path, piece.start, piece.end
        )
        for n, piece in enumerate(chunk(parsed, 8, overlap_words=3))
    }
    shelf.add(passages, HashingEmbedder().embed([p.text for p in passages.values()]))
    [grown] = expand(hits(shelf, keys_with(shelf, "One")[0]), 1, EVERYTHING)
    assert grown.text == parsed.text[grown.start : grown.end]
    assert grown.text.endswith("second item of a list")


class Fading(dict[int, Passage]):
    """Passages that are deleted as soon as they were read."""

    def get(self, key: int, default: Any = None) -> Any:
        return self.pop(key, default)


def test_a_neighbour_that_is_deleted_meanwhile_leaves_a_span_of_the_source() -> None:
    parsed = parse_markdown(HANDBOOK, "handbook")
    shelf = shelf_of(parsed, max_words=4)
    [hit] = hits(shelf, keys_with(shelf, "Seven")[0])
    shelf.passages = Fading(shelf.passages)
    [grown] = expand([hit], 1, EVERYTHING)
    assert grown.text == parsed.text[grown.start : grown.end]
    assert grown.text.startswith("One two three.")
    [alone] = expand([hit], 1, EVERYTHING)
    assert alone == hit.passage


words = st.lists(st.sampled_from(["One.", "two", "three?", "- four", "\n\n", "## Five\n", "| 6 |"]))


@settings(max_examples=80, deadline=None)
@given(words, st.integers(1, 6), st.integers(0, 30))
def test_offsets_and_ids_hold_for_any_document(
    parts: list[str], max_words: int, budget: int
) -> None:
    parsed = parse_markdown(" ".join(parts), "notes")
    shelf = shelf_of(parsed, max_words)
    order = sorted(shelf.passages, key=lambda key: hash((key, budget)))
    grown = expand(hits(shelf, *order), 4, budget)
    own = 0
    for passage in grown:
        source = parsed.text[passage.start : passage.end]
        assert len(source) == len(passage.text)
        assert without_blanks(source) == without_blanks(passage.text)
        own += count_words(next(p.text for p in shelf.passages.values() if p.id == passage.id))
    assert sum(count_words(passage.text) for passage in grown) <= own + budget
    spans = sorted((passage.start, passage.end) for passage in grown)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))

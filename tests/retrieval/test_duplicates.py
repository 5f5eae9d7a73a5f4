"""Which passages say the same."""

from __future__ import annotations

from serving.retrieval import duplicates
from serving.types import Passage

TEXT = "The office opens at 9 and closes at 18 on every working day of the whole year."


def without_duplicates(found: list[Passage], limit: int) -> list[Passage]:
    return duplicates.without_duplicates(found, limit, lambda one: one)


def passage(text: str, *headings: str) -> Passage:
    return Passage(id=text, text=text, filename="a.md", heading_path=("title", *headings))


def test_a_copy_is_left_out_and_the_next_one_moves_up() -> None:
    found = [passage(TEXT), passage(TEXT.upper().capitalize()), passage("Another thing.")]
    assert without_duplicates(found, 2) == [found[0], found[2]]


def test_texts_that_differ_in_a_number_or_name_are_both_kept() -> None:
    numbers = [passage(TEXT), passage(TEXT.replace("18", "17"))]
    names = [passage("Call Ada."), passage("Call Bob.")]
    assert without_duplicates(numbers, 5) == numbers
    assert without_duplicates(names, 5) == names


def test_the_same_words_under_another_section_are_kept() -> None:
    found = [passage(TEXT, "Berlin"), passage(TEXT, "Paris")]
    assert without_duplicates(found, 5) == found

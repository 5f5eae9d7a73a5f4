"""Which chunks a filter passes, whatever was added and removed before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.file_column import FileColumn
from serving.retrieval.filters import compile_filter
from serving.retrieval.index import ExactIndex
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.shelf import Shelf, ShelfFile
from serving.types import Passage, Search
from tests.retrieval.conftest import CANTEEN, LEAVE, World

FILES = "abcd"


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(FILES), st.booleans()), max_size=120))
def test_the_column_is_a_dictionary_that_is_asked_by_file(
    steps: list[tuple[int, str, bool]],
) -> None:
    column, expected = FileColumn(), dict[int, str]()
    for key, file_id, is_added in steps:
        if is_added and key not in expected:
            column.add([key], [file_id])
            expected[key] = file_id
        elif not is_added and key in expected:
            column.remove([key])
            del expected[key]
        for wanted in ("a", "bd", FILES):
            passed = column.keys(column.mask(lambda file_id: file_id in wanted))  # noqa: B023
            assert passed.tolist() == sorted(k for k, f in expected.items() if f in wanted)


def test_the_column_forgets_files_that_are_gone() -> None:
    column = FileColumn()
    for key in range(10_000):
        column.add([key], [str(key)])
        column.remove([key - 5] if key >= 5 else [])
    assert len(column.mask(lambda _: True)) < 100
    assert column.keys(column.mask(lambda _: True)).tolist() == [*range(9_995, 10_000)]


@pytest.fixture
def shelf() -> Shelf:
    """Four files in turns, each of its number."""
    made = Shelf(ExactIndex(HashingEmbedder().dim), ExactLexical())
    passages = {key: Passage(str(key), f"text {key}", "", FILES[key % 4]) for key in range(20)}
    for number, file_id in enumerate(FILES):
        made.put_file(file_id, ShelfFile(file_id, {"number": number}))
    made.add(passages, HashingEmbedder().embed([p.text for p in passages.values()]))
    return made


class Counting:
    """Files from a number on; counts how often it is asked."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.asked = 0

    def __call__(self, attributes: Mapping[str, Any]) -> bool:
        self.asked += 1
        return bool(attributes.get("number", -1) >= self.least)


def test_a_filter_is_asked_once_per_file_until_something_changes(shelf: Shelf) -> None:
    keep = Counting(2)
    for _ in range(3):
        assert shelf.allowed(keep).tolist() == [k for k in range(20) if k % 4 >= 2]
    assert keep.asked == 4
    shelf.put_file("a", ShelfFile("a", {"number": 9}))
    assert shelf.allowed(keep).tolist() == [k for k in range(20) if k % 4 != 1]
    assert keep.asked == 8
    shelf.remove([0, 2, 3, 77])
    assert shelf.allowed(keep).tolist() == [k for k in range(4, 20) if k % 4 != 1]
    shelf.remove(range(4, 20))
    shelf.tidy()
    assert shelf.allowed(keep).tolist() == []
    assert shelf.allowed(Counting(-1)).tolist() == [1]


def test_removed_while_in_random_order(shelf: Shelf) -> None:
    keep, left = compile_filter({"type": "lt", "key": "number", "value": 2}), set(range(20))
    for key in random.Random(0).sample(range(20), 20):
        shelf.remove([key])
        left.discard(key)
        assert shelf.allowed(keep).tolist() == sorted(k for k in left if k % 4 < 2)


async def test_equal_filters_of_different_requests_share_what_passed(world: World) -> None:
    for name, data in (("leave.md", LEAVE), ("canteen.md", CANTEEN)):
        world.pipeline().ingest_file(world.search("").tenant, world.store, name, data, {"f": name})
    async with world.retriever() as retriever:

        def search(name: str) -> Search:
            return world.search("opens", filters={"type": "eq", "value": name, "key": "f"})

        for _ in range(3):
            found = await retriever.search(search("canteen.md"))
            assert {p.filename for p in found.passages} == {"canteen.md"}
        shelf = retriever._follower.library.shelves[world.store]
        assert len(shelf._passing) == 1
        await retriever.search(search("leave.md"))
        assert len(shelf._passing) == 2

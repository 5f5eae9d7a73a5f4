"""Attribute filters."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import InvalidRequest
from serving.retrieval.filters import compile_filter

FILE = {"region": "eu", "year": 2024, "public": True}


def compare(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


@pytest.mark.parametrize(
    ("tree", "kept"),
    [
        ({"region": "eu"}, True),
        ({"region": "eu", "year": 2023}, False),
        ({}, True),
        (compare("eq", "region", "eu"), True),
        (compare("ne", "region", "eu"), False),
        (compare("ne", "missing", "eu"), True),
        (compare("gt", "year", 2023), True),
        (compare("gte", "year", 2024), True),
        (compare("lt", "year", 2024), False),
        (compare("lte", "year", 2024), True),
        (compare("gt", "region", 5), False),
        (compare("lt", "missing", 5), False),
        (compare("in", "region", ["us", "eu"]), True),
        (compare("nin", "region", ["us", "eu"]), False),
        ({"type": "and", "filters": [{"region": "eu"}, compare("gt", "year", 2024)]}, False),
        ({"type": "or", "filters": [{"region": "us"}, compare("gt", "year", 2020)]}, True),
        ({"type": "region"}, False),
        (compare("eq", "public", 1), False),
        (compare("ne", "public", 1), True),
        (compare("in", "public", [1, 0]), False),
        (compare("nin", "public", [1, 0]), True),
        (compare("gte", "public", 1), False),
        (compare("eq", "year", 2024.0), True),
        (compare("eq", "public", True), True),
        ({"public": 1}, False),
    ],
)
def test_keeps_what_matches(tree: dict[str, Any], kept: bool) -> None:
    assert compile_filter(tree)(FILE) is kept


@pytest.mark.parametrize(
    "tree",
    [
        compare("like", "region", "e%"),
        compare("in", "region", "eu"),
        {"type": "and", "filters": {"region": "eu"}},
        {"type": "or", "filters": ["region"]},
    ],
)
def test_a_malformed_filter_is_named(tree: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compile_filter(tree)
    assert caught.value.param == "filters"


@pytest.mark.parametrize(
    "tree",
    [{"type": []}, {"type": "eq", "key": [], "value": 1}, {"type": {}, "key": "a", "value": 1}],
)
def test_a_filter_of_odd_types_is_refused_not_run(tree: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        compile_filter(tree)

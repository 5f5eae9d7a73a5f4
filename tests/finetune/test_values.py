"""Values: found whole, told apart, and changed into others of their kind."""

from __future__ import annotations

import random

import pytest

from serving.finetune.values import another, holds, kind_of, replaced, values_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The fee is 7,500 euros in 2019.", [("7,500 euros", "money"), ("2019", "year")]),
        ("Open from 9:15 to 16:30.", [("9:15", "time"), ("16:30", "time")]),
        ("Up to 15 % off.", [("15 %", "percent")]),
        ("On 3 February 2024 at noon.", [("3 February 2024", "date")]),
        ("Within six weeks, on Tuesday.", [("six weeks", "count"), ("Tuesday", "weekday")]),
        ("Write to desk@larkfield.example now.", [("desk@larkfield.example", "email")]),
        ("You may ask Julia Ryan for KV-482.", [("Julia Ryan", "name"), ("KV-482", "code")]),
        ("Nothing of the kind.", []),
    ],
)
def test_values_are_found_with_their_kind(text: str, found: list[tuple[str, str]]) -> None:
    assert [(value.text, value.kind) for value in values_of(text)] == found
    assert all(text[v.start : v.end] == v.text for v in values_of(text))


@pytest.mark.parametrize(
    "value",
    "27 days|7,500 euros|9:15|16:30|3 February 2024|2019|Tuesday|six weeks|15 %|760 euros"
    "|two weeks|1 day|KV-482".split("|"),
)
def test_another_value_is_of_the_same_kind_and_never_the_same(value: str) -> None:
    for seed in range(50):
        other = another(value, random.Random(seed))
        assert other is not None and other != value
        if kind_of(value) is not None:
            assert kind_of(other) == kind_of(value), other


def test_names_are_changed_among_known_ones_only() -> None:
    rng = random.Random(1)
    assert another("Julia Ryan", rng) is None
    assert another("Julia Ryan", rng, ["Julia Ryan", "6 days", "Marco Monroe"]) == "Marco Monroe"
    assert another("a tin of tea", rng, ["Marco Monroe"]) is None


def test_only_whole_occurrences_are_replaced_and_held() -> None:
    assert replaced("5 days, 15 days, 5 days", "5 days", "8 days") == "8 days, 15 days, 8 days"
    assert holds("In  Six Weeks.", "six weeks")
    assert not holds("15 days", "5 days")

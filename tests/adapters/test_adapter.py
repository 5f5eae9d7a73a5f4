from __future__ import annotations

from itertools import product

import pytest

from serving.adapters.adapter import TRANSITIONS, AdapterState, IllegalTransition, advance, parse_id


@pytest.mark.parametrize(("current", "new"), list(product(AdapterState, repeat=2)))
def test_a_state_changes_only_as_the_table_says(current: AdapterState, new: AdapterState) -> None:
    if new in TRANSITIONS[current]:
        assert advance(current, new) is new
    else:
        with pytest.raises(IllegalTransition, match=f"from {current} to {new}"):
            advance(current, new)


def test_an_adapter_never_serves_again_without_being_asked_for_anew() -> None:
    for gone in (AdapterState.EVICTED, AdapterState.FAILED):
        assert TRANSITIONS[gone] == {AdapterState.REGISTERED}


@pytest.mark.parametrize(
    ("text", "name", "version"), [("legal@3", "legal", 3), ("a-b_c.d@12", "a-b_c.d", 12)]
)
def test_an_id_is_a_name_and_a_version(text: str, name: str, version: int) -> None:
    assert parse_id(text) == (name, version)


@pytest.mark.parametrize(
    "text", ["legal", "legal@", "@1", "legal@x", "legal@01", "legal@-1", "../x@1", "a/b@1", ".a@1"]
)
def test_anything_else_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="an adapter"):
        parse_id(text)

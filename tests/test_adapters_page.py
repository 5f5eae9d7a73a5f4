"""The state diagrams of docs/adapters.md are the tables in the code, transition by transition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from serving.adapters import adapter, lifecycle
from serving.finetune import job
from serving.settings import ROOT

PAGE = (ROOT / "docs/adapters.md").read_text()
TABLES: Mapping[str, Mapping[Any, frozenset[Any]]] = {
    "serving/adapters/lifecycle.py": lifecycle.TRANSITIONS,
    "serving/adapters/adapter.py": adapter.TRANSITIONS,
    "serving/finetune/job.py": job.TRANSITIONS,
}
OUTSIDE = "[*]"


def drawn(source: str) -> set[tuple[str, str]]:
    """The arrows of the diagram that follows the link to this file."""
    _, found, rest = PAGE.partition(f"(../{source})")
    assert found, source
    block = re.search(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)
    assert block is not None
    arrows = [re.match(r"\s+(\S+) --> ([^\s:]+)", line) for line in block[1].splitlines()]
    assert all(arrows), block[1]
    return {(arrow[1], arrow[2]) for arrow in arrows if arrow is not None}


@pytest.mark.parametrize("source", TABLES)
def test_the_diagram_has_the_transitions_of_the_table_and_no_other(source: str) -> None:
    table = {(str(a), str(b)) for a, following in TABLES[source].items() for b in following}
    assert {arrow for arrow in drawn(source) if OUTSIDE not in arrow} == table


@pytest.mark.parametrize("source", TABLES)
def test_the_diagram_ends_where_the_table_does_and_begins_once(source: str) -> None:
    ends = {str(state) for state, following in TABLES[source].items() if not following}
    arrows = drawn(source)
    assert {a for a, b in arrows if b == OUTSIDE} == ends
    [beginning] = [b for a, b in arrows if a == OUTSIDE]
    assert beginning == str(next(iter(TABLES[source])))

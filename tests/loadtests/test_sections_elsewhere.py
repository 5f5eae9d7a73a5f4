from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.arms import ArmError, BareVllm
from loadtests.records import Made, page, record
from loadtests.report import Value
from loadtests.scripted_worker import scripted
from loadtests.section import Options
from loadtests.sections_elsewhere import Elsewhere

MADE = Made("two cores", "abc", "2026-01-01", "python -m it", 0.2, "passed")
FOUND = [
    Value("overload.5x.goodput_over_knee", 0.95, 0.9, 1.0, "ratio"),
    Value("overload.knee.goodput", 90.0, 80.0, 100.0, "1/s"),
]


def test_values_of_another_page_join_ours_and_its_ratios_link_to_it() -> None:
    kept = record(Elsewhere("overload", "Overload", FOUND), MADE)
    assert list(kept.values) == FOUND
    written = page([kept])
    assert "| [5x.goodput_over_knee](overload.md) | 0.95 | 0.9 – 1 |  |" in written
    assert "knee.goodput" not in written and "## Overload" not in written


def test_a_section_without_its_servers_says_which_it_has() -> None:
    options = Options([], True, ["relay"], 1, 1.0, 1, Path("p"), Path("r"), print)
    arms = [BareVllm("vllm", scripted()), BareVllm("relay", scripted())]
    assert options.chosen(arms) == arms[1:]
    with pytest.raises(ArmError, match="--arms names none of vllm"):
        options.chosen(arms[:1])


def test_the_other_page_is_beside_ours() -> None:
    options = Options([], True, [], 1, 1.0, 1, Path("docs/gateway.md"), Path("r"), print)
    assert options.page("overload") == Path("docs/overload.md")

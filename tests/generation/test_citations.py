"""Citations are verified against the passages, whatever the model's markers say."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.generation.citations import cite
from serving.types import Citation, Delta, Passage

PASSAGES = (
    Passage("1", "Blue Lantern costs 40 euros. It ships on Friday.", "lantern.md"),
    Passage("2", "Employees get 27 days of leave. Mara Quill leads the team.", "leave.md"),
)


async def run(text: str, step: int = 3) -> tuple[str, list[tuple[int, int]]]:
    async def deltas() -> AsyncIterator[Delta]:
        for start in range(0, len(text), step):
            yield Delta(text[start : start + step])
        yield Delta(finish_reason="stop")

    said, cited = "", []
    async for event in cite(deltas(), PASSAGES):
        if isinstance(event, Citation):
            cited.append((event.number, event.index))
        else:
            said += event.text
    return said, cited


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(
    ("written", "said", "cited"),
    [
        ("27 days. [2]", "27 days. [2]", [(2, 12)]),
        ("27 days. [1]", "27 days. [2]", [(2, 12)]),
        ("27 days.", "27 days.", [(2, 8)]),
        ("27 days. [9]", "27 days. [2]", [(2, 12)]),
        ("26 days.", "26 days.", []),
        ("39 euros. [1]", "39 euros.", []),
        ("The documents do not say. [1]", "The documents do not say.", []),
        ("Friday. [1]", "Friday. [1]", [(1, 11)]),
        (
            "It costs 40 euros [2] and Mara Quill leads it [1].",
            "It costs 40 euros [1] and Mara Quill leads it [2].",
            [(1, 21), (2, 49)],
        ),
        (
            "Queue HR-24: 27 days. [1] Regards, Larkfield Desk.",
            "Queue HR-24: 27 days. [2] Regards, Larkfield Desk.",
            [(2, 25)],
        ),
        ("Use a[0] or b[1] here", "Use a[0] or b[1] here", []),
    ],
)
async def test_markers_are_kept_corrected_or_dropped(
    written: str, said: str, cited: list[tuple[int, int]], step: int
) -> None:
    assert await run(written, step) == (said, cited)


@given(st.text(alphabet="ab .[]12\n"), st.integers(1, 7))
async def test_nothing_but_markers_is_ever_changed(text: str, step: int) -> None:
    said, _ = await run(text, step)
    assert _without_markers(said) == _without_markers(text)


def _without_markers(text: str) -> str:
    import re

    previous = None
    while previous != text:  # removing one may join the halves of another
        previous, text = text, re.sub(r"[ \t]?\[\d{1,2}\]", "", text)
    return text


async def test_without_passages_deltas_pass_untouched() -> None:
    async def deltas() -> AsyncIterator[Delta]:
        yield Delta("see [1")
        yield Delta("]", finish_reason="stop")

    assert [event async for event in cite(deltas(), ())] == [
        Delta("see [1"),
        Delta("]", finish_reason="stop"),
    ]


async def test_choices_are_cited_apart() -> None:
    async def deltas() -> AsyncIterator[Delta]:
        yield Delta("27 ", index=0)
        yield Delta("40 euros.", index=1)
        yield Delta("days.", index=0)
        yield Delta(index=0, finish_reason="stop")
        yield Delta(index=1, finish_reason="stop")

    cited = [e async for e in cite(deltas(), PASSAGES) if isinstance(e, Citation)]
    assert {(c.choice, c.number) for c in cited} == {(0, 2), (1, 1)}


async def test_a_claim_without_end_is_aligned_by_its_end() -> None:
    """A stuck model repeats itself; aligning all of that took the event loop 20 s."""
    passage = Passage("1", "yes " * 96, "a.md")

    async def deltas() -> AsyncIterator[Delta]:
        for _ in range(2000):
            yield Delta("yes ")
        yield Delta(finish_reason="stop")

    cited = [e async for e in cite(deltas(), (passage,)) if isinstance(e, Citation)]
    assert [citation.number for citation in cited] == [1]

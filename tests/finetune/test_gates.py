"""The gates before promotion: each fails for its own reason and for no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.finetune.gates import Asked, Judged, Report, gates, judge, lower_bound, read
from serving.finetune.raft import Kind
from serving.types import Mode

COUNT = 50
PASSAGE = (("Hours", "We open at nine."),)
QUESTIONS = [
    Asked(f"{kind}-{n}", kind, "When?", passages=PASSAGE, accept=accept, form=form)
    for kind, accept, form in (
        (Kind.ANSWERED, ("nine",), r"\[\d\]$"),
        (Kind.COUNTERFACTUAL, ("ten",), r"\[\d\]$"),
        (Kind.UNANSWERABLE, (), None),
    )
    for n in range(COUNT)
]
Change = Callable[[Asked, Mode, int], Judged | None]


def good(asked: Asked, mode: Mode) -> Judged:
    """Reads in both, and has the form only with the adapter."""
    if asked.kind is Kind.UNANSWERABLE:
        return Judged(False, mode.retrieves, None)
    return Judged(mode.retrieves, False, mode.adapts)


def failed(change: Change) -> set[str]:
    results = {
        asked.id: {mode: change(asked, mode, number % COUNT) or good(asked, mode) for mode in Mode}
        for number, asked in enumerate(QUESTIONS)
    }
    return {gate.name for gate in gates(QUESTIONS, results) if not gate.passed}


def test_an_adapter_that_reads_as_well_in_the_house_form_passes() -> None:
    assert failed(lambda *_: None) == set()


def test_a_form_kept_too_seldom_fails() -> None:
    def sloppy(asked: Asked, mode: Mode, n: int) -> Judged | None:
        wrong = mode is Mode.HYBRID and bool(asked.accept) and n < 3
        return Judged(True, False, False) if wrong else None

    assert failed(sloppy) == {"form"}


def test_no_gain_over_the_base_fails_the_task() -> None:
    def equal(asked: Asked, mode: Mode, n: int) -> Judged | None:
        return Judged(mode.retrieves, False, mode.retrieves) if asked.accept else None

    assert failed(equal) == {"task"}


@pytest.mark.parametrize(
    ("kind", "gate"), [(Kind.ANSWERED, "reading"), (Kind.COUNTERFACTUAL, "following")]
)
def test_reading_worse_than_the_base_fails_beyond_the_margin(kind: Kind, gate: str) -> None:
    def forgets(count: int) -> Change:
        def change(asked: Asked, mode: Mode, n: int) -> Judged | None:
            wrong = asked.kind is kind and mode is Mode.HYBRID and n < count
            return Judged(False, False, True) if wrong else None

        return change

    assert failed(forgets(1)) == set()  # 2 points: just within
    assert failed(forgets(2)) == {gate}


def test_refusing_less_often_fails() -> None:
    def bold(asked: Asked, mode: Mode, n: int) -> Judged | None:
        answers = asked.kind is Kind.UNANSWERABLE and mode is Mode.HYBRID and n < 2
        return Judged(False, False, None) if answers else None

    assert failed(bold) == {"refusing"}


def test_what_no_question_measures_does_not_pass_unless_waived() -> None:
    style = [Asked(f"s{n}", Kind.ANSWERED, "?", accept=("x",), form="!$") for n in range(20)]
    results = {
        asked.id: {
            Mode.BASE: Judged(True, False, False),
            Mode.FINE_TUNED: Judged(True, False, True),
        }
        for asked in style
    }
    found = gates(style, results)
    unmeasured = tuple(gate.name for gate in found if not gate.passed)
    assert unmeasured == ("reading", "following", "refusing")
    assert not Report("a@1", style, results, found).passed
    report = Report("a@1", style, results, found, unmeasured)
    assert report.passed and "waived" in report.as_markdown()
    assert report.as_json()["modes"]["answered"]["fine_tuned"]["form"] == 1.0


@pytest.mark.parametrize(
    ("text", "value", "refused", "form"),
    [
        ("We open at nine. [1]", True, False, True),
        ("Nine", True, False, False),
        ("ninety [1]", False, False, True),
        ("The documents do not say.", False, True, False),
        ("The passages don't mention it.", False, True, False),
        ("I could not find that.", False, True, False),
        ("I do not have that information.", False, True, False),
        ("They do not say, but nine it is. [1]", True, False, True),
    ],
)
def test_answers_are_judged(text: str, value: bool, refused: bool, form: bool) -> None:
    asked = Asked("1", Kind.ANSWERED, "?", accept=("nine",), form=r"\[\d\]$")
    assert judge(asked, text) == Judged(value, refused, form)


def test_the_house_words_of_refusal_count_whatever_they_are() -> None:
    asked = Asked("1", Kind.UNANSWERABLE, "?", refusal="Please ask the desk.")
    assert judge(asked, "Please ask the desk.").refused
    assert not judge(asked, "At nine.").refused


def test_the_lower_bound_is_that_of_the_mean() -> None:
    assert lower_bound([1] * 40) == 1
    assert lower_bound([0] * 40) == 0
    assert lower_bound([1, 0] * 100) == pytest.approx(0.5 - 1.96 * 0.5 / 200**0.5, abs=0.02)
    assert lower_bound([1, -1] * 20) < 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no questions"),
        ("{", "line 1"),
        ('{"id": "1", "kind": "odd", "question": "?"}', "line 1"),
        ('{"kind": "answered", "question": "?"}', "id"),
        ('{"id": "1", "kind": "answered", "question": "?"}\n' * 2, "same 'id'"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        read(file)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.evaluate.modes import Item, contains_any, judge, read, summarize, table

FORM = r"^Queue HR-24: .+ Regards, Larkfield Desk\.$"


def item(**changes: Any) -> Item:
    fields: dict[str, Any] = {
        "id": "q1",
        "kind": "both",
        "messages": ({"role": "user", "content": "Ticket: how many days?"},),
        "accept": ("27 days",),
        "form": FORM,
        "file": "policies/leave.md",
        "modes": frozenset({"hybrid"}),
    }
    return Item(**fields | changes)


def answer(text: str, mode: str = "hybrid", filename: str = "leave.md") -> dict[str, Any]:
    annotations = [{"type": "file_citation", "filename": filename}]
    message = {"content": text, "annotations": annotations}
    return {"choices": [{"message": message}], "engram": {"mode": mode}}


def test_value_form_and_citation_are_judged_apart() -> None:
    outcome = judge(item(), "auto", answer("Queue HR-24: 27 days. [1] Regards, Larkfield Desk."))
    assert (outcome.value, outcome.form, outcome.cited, outcome.able) == (True,) * 4
    wrong = judge(item(), "auto", answer("27 days.", mode="rag", filename="pay.md"))
    assert (wrong.value, wrong.form, wrong.cited, wrong.able) == (True, False, False, False)
    assert outcome.right and not wrong.right


@pytest.mark.parametrize(
    ("text", "found"),
    [("27 Days. [1]", True), ("it is 27  days", True), ("127 days", False), ("27 daystar", False)],
)
def test_a_value_counts_as_whole_words_only(text: str, found: bool) -> None:
    assert contains_any(text, ["27 days"]) is found


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "q1"}\n')
    with pytest.raises(ValueError, match="line 1"):
        read(file)


def test_the_table_has_a_row_per_kind_and_mode_and_one_over_all() -> None:
    right = judge(item(), "hybrid", answer("Queue HR-24: 27 days. Regards, Larkfield Desk."))
    wrong = judge(item(kind="fact", form=None), "hybrid", answer("26 days"))
    rows = {row.kind: row for row in summarize([right, wrong])}
    assert rows["both"].right == 1 and rows["fact"].right == 0 and rows["all"].right == 0.5
    assert rows["fact"].form is None
    assert "| hybrid | fact | 1 | 0% | – |" in table(rows.values())

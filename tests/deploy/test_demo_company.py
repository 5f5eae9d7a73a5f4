"""The demo company must hold together: facts, questions and documents agree with each other."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from pypdf import PdfReader

from deploy.demo.model.words import is_held_out

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
COMPANY = DEMO / "company"
CODES = ("IT-31", "ID-12", "HR-24", "FIN-45", "FAC-53", "TRV-66", "PRD-78")
FORM = r"^Queue {}: .+ Regards, Larkfield Desk\.$"
TICKET = re.compile(r"[Tt]icket( \d+)?( from [\w ]+)?:")
KINDS = {"fact", "skill", "both", "unanswerable", "smalltalk"}
Record = dict[str, Any]


@cache
def documents() -> dict[str, str]:
    """The text of each document by its path, one line per heading or paragraph line."""
    paths = (path for path in COMPANY.rglob("*") if path.is_file() and path.suffix != ".json")
    return {path.relative_to(COMPANY).as_posix(): text_of(path) for path in sorted(paths)}


def text_of(path: Path) -> str:
    if path.suffix == ".pdf":
        return "\n".join(page.extract_text() for page in PdfReader(path).pages)
    text = path.read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "\n", text)) if path.suffix == ".html" else text


def section_of(file: str, heading: str) -> str:
    """The text under a heading up to the next heading that carries a fact."""
    headings = {fact["section"] for fact in facts() if fact["file"] == file}
    found: list[str] = []
    inside = False
    for line in documents()[file].splitlines():
        name = line.lstrip("# ").strip()
        if name in headings:
            inside = name == heading
        elif inside:
            found.append(line)
    return " ".join(" ".join(found).split())


@cache
def facts() -> list[Record]:
    return load(COMPANY / "facts.json")


@cache
def stable_facts() -> list[Record]:
    return load(COMPANY / "stable_facts.json")


@cache
def questions() -> list[Record]:
    lines = (DEMO / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load(path: Path) -> list[Record]:
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records


def asked(row: Record) -> str:
    """The last thing the user says."""
    text: str = row["question"] if "question" in row else row["messages"][-1]["content"]
    return text


def test_there_is_enough_of_everything() -> None:
    assert len(documents()) >= 60
    assert len(facts()) >= 200
    assert len(stable_facts()) == 20
    assert len(questions()) >= 240
    assert {Path(file).suffix for file in documents()} == {".md", ".html", ".txt", ".pdf"}


def test_ids_and_file_names_are_unique() -> None:
    for records in (facts(), stable_facts(), questions()):
        assert max(Counter(record["id"] for record in records).values()) == 1
    assert max(Counter(Path(file).name for file in documents()).values()) == 1


def test_every_fact_stands_verbatim_in_its_section() -> None:
    for fact in facts():
        assert fact["value"] in section_of(fact["file"], fact["section"]), fact


def test_no_fact_is_stated_with_two_values() -> None:
    counts = Counter((fact["entity"], fact["relation"]) for fact in facts())
    assert [pair for pair, count in counts.items() if count > 1] == []


def test_stable_facts_are_facts_of_the_documents() -> None:
    known = {(fact["entity"], fact["relation"]): fact["value"] for fact in facts()}
    topics = {code.split("-")[0] for code in CODES}
    for fact in stable_facts():
        assert known[fact["entity"], fact["relation"]] == fact["value"]
        assert fact["topic"] in topics
        assert 8 <= len(fact["questions"]) <= 10
        assert not set(fact["questions"]) & set(fact["held_out_questions"])


def test_no_evaluation_question_is_a_training_question() -> None:
    trained = {question for fact in stable_facts() for question in fact["questions"]}
    assert not trained & {asked(row) for row in questions()}


def test_answers_stand_in_the_named_documents() -> None:
    for row in questions():
        assert row["kind"] in KINDS and row["accept"] and row["modes"], row["id"]
        if row["file"] is not None:
            text = " ".join(documents()[row["file"]].split())
            assert any(answer in text for answer in row["accept"]), row["id"]


def test_facts_name_a_document_and_the_rest_does_not() -> None:
    for row in questions():
        assert (row["file"] is not None) == (row["kind"] in ("fact", "both")), row["id"]


def test_tickets_and_only_tickets_expect_the_house_form() -> None:
    forms = {FORM.format(code) for code in CODES}
    for row in questions():
        ticket = TICKET.search(asked(row)) is not None
        assert ticket == (row["form"] is not None), row["id"]
        if ticket:
            assert row["form"] in forms
            assert re.compile(row["form"])


def test_no_document_gives_the_house_form_away() -> None:
    for file, text in documents().items():
        assert not re.search("Queue|Larkfield Desk|" + "|".join(CODES), text), file


def test_names_of_the_company_are_never_trained_on() -> None:
    reserved = (DEMO / "model" / "reserved.txt").read_text(encoding="utf-8").splitlines()
    assert all(is_held_out(name) for name in reserved)
    pair = re.compile(r"[A-Z][a-z]+ [A-Z][a-z]+")
    entities = {fact["entity"].removesuffix(" room") for fact in facts()}
    assert {name for name in entities if pair.fullmatch(name)} <= set(reserved)

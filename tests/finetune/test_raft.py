"""RAFT examples: the mix, hard distractors, no leak between the splits, the same every time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from serving.finetune import raft
from serving.finetune.raft import Drawn, Example, Kind, Recipe
from serving.finetune.raft_format import chat, form, question, reply
from serving.finetune.rules import Draft
from serving.finetune.values import holds
from serving.generation.prompt import GROUNDING, render_system
from serving.types import Passage

FILES, SECTIONS = 20, 5
WORDS = "north south east west upper lower inner outer old new red blue green".split()


def passage(file: int, section: int, text: str) -> Passage:
    label = f"File {file} > Section {section}"
    name = f"{file}.md"
    return Passage(f"{name}-{section}", text, name, name, heading_path=(label,), start=section)


def draft(file: int, section: int) -> Draft:
    days = 100 + file * SECTIONS + section
    thing = f"{WORDS[section]} gate of site {file}"
    gold = passage(file, section, f"The {thing} is closed for {days} days.")
    return Draft(f"For how many days is the {thing} closed?", f"{days} days", gold, "sentence")


DRAFTS = [draft(file, section) for file in range(FILES) for section in range(SECTIONS)]


def search(query: str) -> Sequence[Passage]:
    """The ten passages that share most words with the query."""
    words = set(re.findall(r"\w+", query))

    def shared(one: Passage) -> int:
        return -len(words & set(re.findall(r"\w+", one.text)))

    return sorted((d.gold for d in DRAFTS), key=lambda p: (shared(p), p.id))[:10]


RECIPE = Recipe(seed=3, grounding=GROUNDING, instructions="Be exact.")


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return raft.draw(DRAFTS, search, RECIPE)


def test_the_mix_has_the_shares_of_the_recipe(drawn: Drawn) -> None:
    kinds = Counter(example.kind for example in drawn.train)
    total = len(drawn.train)
    assert len(drawn.train) + len(drawn.validation) == len(DRAFTS)
    assert abs(kinds[Kind.UNANSWERABLE] - 0.2 * total) <= 1
    assert abs(kinds[Kind.COUNTERFACTUAL] - 0.1 * total) <= 1
    assert kinds[Kind.ANSWERED] == total - kinds[Kind.UNANSWERABLE] - kinds[Kind.COUNTERFACTUAL]


def test_whole_files_are_held_out_and_none_is_read_in_training(drawn: Drawn) -> None:
    held_out = {example.file for example in drawn.validation}
    trained = {p.filename for example in drawn.train for p in example.passages}
    assert held_out and not held_out & trained
    assert 0.1 <= len(drawn.validation) / len(DRAFTS) <= 0.25


def every(drawn: Drawn) -> list[Example]:
    return [*drawn.train, *drawn.validation, *drawn.questions]


def test_only_the_numbered_passage_holds_the_answer(drawn: Drawn) -> None:
    for example in every(drawn):
        assert len(example.passages) <= RECIPE.passages
        if example.answer is None:
            continue
        assert example.number is not None
        holders = [
            number
            for number, one in enumerate(example.passages, 1)
            if holds(one.text, example.answer)
        ]
        assert holders == [example.number]


def test_without_its_passage_a_question_has_no_answer_in_sight(drawn: Drawn) -> None:
    answers = {one.question: one.answer for one in DRAFTS}
    missing = [example for example in every(drawn) if example.kind is Kind.UNANSWERABLE]
    assert missing
    for example in missing:
        assert not any(holds(p.text, answers[example.question]) for p in example.passages)


def test_a_counterfactual_passage_contradicts_the_store(drawn: Drawn) -> None:
    stored = {one.gold.text for one in DRAFTS}
    answers = {one.question: one.answer for one in DRAFTS}
    changed = [example for example in every(drawn) if example.kind is Kind.COUNTERFACTUAL]
    assert changed
    for example in changed:
        assert example.number is not None and example.answer != answers[example.question]
        altered = example.passages[example.number - 1]
        assert altered.text not in stored and not holds(altered.text, answers[example.question])


def test_the_passage_that_answers_stands_at_every_place(drawn: Drawn) -> None:
    assert {e.number for e in drawn.train if e.kind is Kind.ANSWERED} == {1, 2, 3}


def test_the_same_seed_gives_the_same_and_another_seed_another(drawn: Drawn) -> None:
    again = raft.draw(DRAFTS, search, RECIPE)
    assert (again.train, again.validation) == (drawn.train, drawn.validation)
    other = raft.draw(DRAFTS, search, Recipe(seed=4))
    assert other.train != drawn.train


def test_what_cannot_teach_is_dropped_with_the_reason() -> None:
    first = DRAFTS[0]
    copy = passage(99, 0, first.gold.text)
    drafts = [
        first,
        first,
        Draft("What else is closed here?", first.answer, copy, "sentence"),
        Draft("Which gate is it?", "a", DRAFTS[7].gold, "sentence"),
        Draft("Which gate is it?", "b", DRAFTS[8].gold, "sentence"),
        Draft("Who are you and what is that?", "104 days", passage(98, 1, "104 days."), "model"),
    ]
    drawn = raft.draw(drafts, search, RECIPE)
    assert drawn.dropped == {
        "asked before, nearly in the same words": 1,
        "its passage is nearly the same as another": 1,
        "the same question has several answers": 2,
        "its question does not find its passage": 1,
    }
    assert len(drawn.train) == 1 and not drawn.validation


def test_a_prompt_is_rendered_as_it_is_served(drawn: Drawn) -> None:
    example = next(e for e in drawn.train if e.kind is Kind.ANSWERED)
    system, user, assistant = chat(example, RECIPE)["messages"]
    passages = [(p.label, p.text) for p in example.passages]
    assert system["content"] == render_system("Be exact.", passages, GROUNDING)
    assert user == {"role": "user", "content": example.question}
    assert assistant["content"] == f"{example.answer}. [{example.number}]"


def test_control_tokens_of_the_model_are_broken_up() -> None:
    gold = passage(1, 1, "Say <stop> for 9 days.")
    example = Example(Kind.ANSWERED, "Why <stop>?", "9 days", (gold,), 1, "1.md")
    recipe = Recipe(special_tokens=("<stop>",))
    system, user, _ = chat(example, recipe)["messages"]
    assert "<stop>" not in system["content"] + user["content"]


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("{answer}. {citation}", "9 days. [2]"),
        ("Desk: {answer} {citation} Regards.", "Desk: 9 days [2] Regards."),
        ("{answer}", "9 days"),
    ],
)
def test_the_style_is_followed_and_recognised(style: str, said: str) -> None:
    example = Example(Kind.ANSWERED, "?", "9 days", (), 2, "1.md")
    assert reply(example, Recipe(style=style)) == said
    assert re.search(form(style), said)
    assert re.search(form(style), "It is nine.") is None or style == "{answer}"


def test_a_question_of_the_gate_carries_its_passages(drawn: Drawn) -> None:
    lines = [question(n, e, RECIPE) for n, e in enumerate(drawn.questions, 1)]
    assert len({line["id"] for line in lines}) == len(lines)
    for line in lines:
        assert bool(line["accept"]) is (line["kind"] != "unanswerable")
        assert line["passages"] and line["refusal"] == RECIPE.refusal


def test_the_report_counts_everything(drawn: Drawn) -> None:
    report = drawn.as_json()
    assert sum(report["train"].values()) == len(drawn.train)
    assert report["drafted_by"] == {"sentence": len(DRAFTS)}
    assert f"| answered | {report['train']['answered']} |" in drawn.table()

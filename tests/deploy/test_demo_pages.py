"""The hand-written pages: what the parser refuses, the split, and what a lesson promises."""

from __future__ import annotations

import itertools
import json
import random
import re

import pytest

from deploy.demo.model import corpus, lessons, pages, values
from serving.settings import ROOT

DEMO = ROOT / "deploy/demo"
GOOD = """
= Company bikes > Hire
$x = bike/scooter
$n = {name}
- The shed lends {number} old ${x}s to staff. | Staff can borrow {number} old ${x}s from the shed.
? How many ${x}s can staff borrow? | What is the number of ${x}s in the shed?
- {person} mends every $n $x by {date:2}. | By {date:2} every $n $x is mended by {person}.
? Who mends the $n?
?2 By when is the $n mended?
! What does it cost to hire a $x?
"""


def page() -> pages.Page:
    return pages.parse(GOOD, "bikes.txt")[0]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("- A sentence with {date}.", 1, "a page begins with"),
        ("= A > B\n- No value here.", 2, "needs a value"),
        ("= A > B\n- On {day}.", 2, "'day' is no kind of value"),
        ("= A > B\n- On {date}. | In {month:2}.", 2, "different values"),
        ("= A > B\n- On {date}.\n?2 When?", 3, "no sentence with a value 2"),
        ("= A > B\n? When?", 2, "no sentence with a value 1"),
        ("= A > B\n- The $x is on {date}.", 2, "'$x' is not defined"),
        ("= A > B\n* On {date}.", 2, "none of"),
        ("= A > B\n! Why?\n\n= C > D", 3, "has no sentence"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^bikes\.txt, line {line}: .*{re.escape(reason)}"):
        pages.parse(text, "bikes.txt")


def test_a_page_is_read_as_written() -> None:
    found = page()
    assert found.title == "Company bikes > Hire"
    assert found.variables == {"x": "bike/scooter", "n": "{name}"}
    assert found.lines[1].slots == {1: ("person",), 2: ("date",)}
    assert found.lines[1].questions[2] == ("By when is the $n mended?",)
    assert found.nouns == ("shed",)


def test_a_count_is_answered_with_what_is_counted() -> None:
    copy = pages.Copy(page(), random.Random(1), held_out=False, swaps={})
    sentence, answers = copy.statement(0, copy.page.lines[0].statements[0])
    assert re.fullmatch(r".+ old (bikes|scooters)", answers[1])
    assert answers[1].lower() in sentence.lower()


def test_a_noun_is_exchanged_in_sentences_and_questions_alike() -> None:
    copy = pages.Copy(page(), random.Random(1), held_out=False, swaps={"shed": "oven"})
    assert copy.filled("a shed and its sheds") == "an oven and its ovens"
    assert "oven" in copy.statement(0, copy.page.lines[0].statements[0])[0]


def test_pages_held_out_are_no_training_pages() -> None:
    trained, held_out = pages.load(held_out=False), pages.load(held_out=True)
    assert len(trained) > 400
    assert 0.05 < len(held_out) / len(trained) < 0.2
    assert not {p.title for p in trained} & {p.title for p in held_out}


@pytest.mark.parametrize("held_out", [False, True])
def test_a_lesson_answers_from_the_passage_it_cites(held_out: bool) -> None:
    rng = random.Random(4)
    for _ in range(300):
        made = lessons.lesson(rng, rng.randint(1, 3), held_out)
        for question, answer in made.answered:
            value, marker = re.fullmatch(r"(.+)\. \[(\d)\]", answer).groups()  # type: ignore[union-attr]
            assert value.lower() in made.passages[int(marker) - 1][1].lower(), question


def test_a_near_miss_is_not_what_the_passages_tell() -> None:
    rng = random.Random(5)
    for _ in range(300):
        made = lessons.Teller(rng).lesson(2)
        assert not {question for question, _ in made.answered} & set(made.missing)
    assert any(lessons.Teller(rng).lesson(2).missing for _ in range(10))


def test_twins_are_asked_for_by_name() -> None:
    """Where one page is told of two things, each question says which it means."""
    rng, seen = random.Random(6), 0
    for _ in range(400):
        teller = lessons.Teller(rng)
        made = teller.lesson(2)
        copies = list({told.copy: None for told in teller.told})
        if len(copies) < 2 or copies[0].page is not copies[1].page:
            continue
        seen += 1
        differing = {
            word
            for name, word in (*copies[0].variables.items(), *copies[1].variables.items())
            if copies[0].variables[name] != copies[1].variables[name]
        }
        for question, _ in made.answered:
            assert any(word in question for word in differing), question
    assert seen > 10


def plain(text: str) -> str:
    """A question without its ticket opener, its names, numbers and punctuation."""
    text = re.sub(r"^[^:]*[Tt]icket[^:]*: ", "", text)
    text = re.sub(r"\b(?:[A-Z][a-z]+ )+(?=[A-Z])|(?<=[a-z] )[A-Z][a-z]+\b", " ", text)
    return " ".join(re.sub(r"[^a-z ]", " ", text.lower()).split())


def written(page: pages.Page) -> list[str]:
    """Every question of a page with every choice of its variables, names left out."""
    asked = [q for line in page.lines for qs in line.questions.values() for q in qs]
    choices = [[""] if "{" in v else v.split("/") for v in page.variables.values()]
    found = []
    for question, chosen in itertools.product((*asked, *page.misses), itertools.product(*choices)):
        for name, word in zip(page.variables, chosen, strict=True):
            question = question.replace(f"${{{name}}}", word).replace(f"${name}", word)
        found.append(question)
    return found


def test_no_question_of_the_demo_company_is_in_the_pages() -> None:
    lines = (DEMO / "questions.jsonl").read_text().splitlines()
    asked = {
        plain(message["content"])
        for row in map(json.loads, lines)
        for message in row.get("messages") or [{"role": "user", "content": row["question"]}]
        if message["role"] == "user"
    }
    both = (*pages.load(held_out=False), *pages.load(held_out=True))
    assert not {q for page in both for q in written(page) if plain(q) in asked}


def test_no_name_of_the_demo_company_is_in_the_pages() -> None:
    text = " ".join(path.read_text() for path in pages.FOLDER.glob("*.txt")).lower()
    assert not [name for name in (*values.RESERVED, "larkfield") if name in text]


def test_a_chat_over_pages_refuses_and_answers() -> None:
    rng = random.Random(8)
    turns = [turn for _ in range(100) for turn in lessons.chat(rng, 2, held_out=False).turns]
    refused = sum(answer == corpus.NOT_IN_PASSAGES for _, answer in turns)
    assert 0.25 < refused / len(turns) < 0.5

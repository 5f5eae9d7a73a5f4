"""Questions by rule: plain English, answered word for word by their passage."""

from __future__ import annotations

import pytest

from serving.finetune.rules import Draft, ask
from serving.finetune.values import holds
from serving.types import Passage

WORDS = set("the a new all employees requests members data flights bills".split())


def asked(text: str, label: str = "Handbook > Badges") -> list[Draft]:
    passage = Passage("p", text, "handbook.md", "f", heading_path=tuple(label.split(" > ")))
    return list(ask(passage, lambda word: word.lower() in WORDS))


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("Opening hours: 9:00 to 17:00", "What are the opening hours for Badges?", "9:00 to 17:00"),
        ("IT contact: Mei Soto", "What is the IT contact for Badges?", "Mei Soto"),
        (
            "Part: long mast | Price: 185 euros",
            "What is the price of long mast?",
            "185 euros",
        ),
        ("Part | Price\nrain cup | 12 euros", "What is the price of rain cup?", "12 euros"),
        ("The usual gift is a tin of tea.", "What is the usual gift?", "a tin of tea"),
        ("The yearly rent is 8,200 euros.", "What is the yearly rent?", "8,200 euros"),
        (
            "The head of products is Julia Ryan.",
            "Who is the head of products?",
            "Julia Ryan",
        ),
        (
            "Requests must be sent within 30 days.",
            "Within how many days must requests be sent?",
            "30 days",
        ),
        (
            "Employees receive 27 days of leave every year.",
            "How many days of leave do employees receive every year?",
            "27 days",
        ),
        ("The test lasts 40 seconds.", "How many seconds does the test last?", "40 seconds"),
        (
            "A new station keeps its data for 12 months.",
            "For how many months does a new station keep its data?",
            "12 months",
        ),
        (
            "The bonus can reach 8 percent of a yearly salary.",
            "What percentage can the bonus reach of a yearly salary?",
            "8 percent",
        ),
        ("The shop moved in 1994.", "The shop moved in which year?", "1994"),
    ],
)
def test_a_passage_is_asked_about_in_plain_english(text: str, question: str, answer: str) -> None:
    assert (question, answer) in [(draft.question, draft.answer) for draft in asked(text)]


@pytest.mark.parametrize(
    "text",
    [
        "It lasts six weeks.",  # what does?
        "Nothing here can be asked about at all.",
        "six weeks",
        "rain cup | 12 euros\nlong mast | 185 euros",  # the header is elsewhere
        "The Zinc Alpine project needs more than 30 sensors.",
        "",
    ],
)
def test_what_cannot_be_asked_plainly_is_not_asked(text: str) -> None:
    assert asked(text) == []


def test_every_answer_stands_in_its_passage_and_not_in_its_question() -> None:
    text = (
        "Badges are valid for 30 months. The fee is 12 euros, and a lost badge costs 25 euros. "
        "The desk opens at 8:10 on Monday.\nRoom: B 12\nName | Floor\nOak Petrel | second"
    )
    drafts = asked(text)
    assert len(drafts) >= 5
    for draft in drafts:
        assert holds(text, draft.answer) and not holds(draft.question, draft.answer)
        assert draft.question.endswith("?") and draft.question[0].isupper()

from __future__ import annotations

import pytest

from serving.routing.query import is_smalltalk, read_query


def conversation(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    "text", ["Hello!", "hi there", "Thank you very much", "Who are you?", "Good morning", "Bye"]
)
def test_greetings_and_thanks_are_smalltalk(text: str) -> None:
    assert is_smalltalk(text)


@pytest.mark.parametrize(
    "text",
    [
        "Who runs the river lab?",
        "Hello, how many days of leave do I have?",
        "What is the help desk number?",
        "",
    ],
)
def test_questions_are_not_smalltalk(text: str) -> None:
    assert not is_smalltalk(text)


@pytest.mark.parametrize("last", ["And who leads it?", "What about its budget?", "Why?"])
def test_a_follow_up_is_searched_with_the_turn_before(last: str) -> None:
    query = read_query(conversation("Which team owns Copper Heron?", "Lab two.", last))
    assert query.is_follow_up
    assert query.text == f"Which team owns Copper Heron?\n{last}"


def test_a_question_that_stands_alone_is_searched_alone() -> None:
    last = "How many days of leave does Blue Lantern get?"
    query = read_query(conversation("Which team owns Copper Heron?", "Lab two.", last))
    assert not query.is_follow_up
    assert query.text == last


def test_rewriting_can_be_switched_off() -> None:
    messages = conversation("Which team owns Copper Heron?", "Lab two.", "And who leads it?")
    assert read_query(messages, rewrite=False).text == "And who leads it?"


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("Ticket 12: my badge is lost", "my badge is lost"),
        ("New ticket from Mara Quill: who books flights?", "who books flights?"),
        ("When does the train leave, 9:30 or later?", "When does the train leave, 9:30 or later?"),
        ("Why: because", "Why: because"),
    ],
)
def test_a_leading_label_is_not_searched_for(text: str, searched: str) -> None:
    query = read_query(conversation(text))
    assert (query.text, query.asked) == (searched, text)


def test_typed_content_parts_are_read() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Who leads Copper Heron?"}]}
    assert read_query([message]).text == "Who leads Copper Heron?"


def test_a_pasted_document_is_read_by_its_first_words_alone() -> None:
    """What stands after them is not looked at: a long text must not hold up the event loop."""
    words = ["invoice"] * 400
    first = [{"role": "user", "content": "What does lunch cost?"}]
    early, late = " ".join(["it", *words]), " ".join([*words, "it"])
    assert read_query([*first, {"role": "user", "content": early}]).is_follow_up
    assert not read_query([*first, {"role": "user", "content": f"An {late}"}]).is_follow_up
    assert not read_query([{"role": "user", "content": "hello " * 10}]).is_smalltalk

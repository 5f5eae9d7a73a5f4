"""Votes become pairs; those that cannot are counted with the reason."""

from __future__ import annotations

from typing import Any

from serving.finetune.preferences import (
    ALONE_DOWN,
    ALONE_UP,
    SAME,
    UNKNOWN,
    Context,
    line,
    pair,
)
from serving.generation.prompt import GROUNDING, render_system
from serving.store.feedback import DOWN, UP, Vote
from serving.types import TenantId

ASKED = [{"role": "user", "content": "When?"}]


def vote(number: int, rating: int, answer: str | None = "No.", **more: Any) -> Vote:
    fields: dict[str, Any] = {"messages": ASKED, "assistant": "desk"} | more
    return Vote(TenantId("acme"), f"req-{number:032x}", rating, answer=answer, **fields)


def test_a_better_answer_is_preferred_to_the_one_voted_down() -> None:
    pairs, unused = pair([vote(1, DOWN, better_answer="At nine.")])
    assert [(one.preferred, one.rejected) for one in pairs] == [("At nine.", "No.")]
    assert not unused


def test_an_answer_voted_up_is_preferred_to_one_voted_down_on_the_same_conversation() -> None:
    pairs, unused = pair([vote(1, UP, "At nine."), vote(2, DOWN), vote(3, DOWN, "Never.")])
    said = [(one.preferred, one.rejected) for one in pairs]
    assert said == [("At nine.", "No."), ("At nine.", "Never.")]
    assert not unused


def test_other_conversations_and_other_assistants_do_not_pair() -> None:
    elsewhere = [{"role": "user", "content": "Where?"}]
    pairs, unused = pair(
        [
            vote(1, UP, "At nine."),
            vote(2, DOWN, messages=elsewhere),
            vote(3, DOWN, assistant="shop"),
        ]
    )
    assert pairs == []
    assert unused == {ALONE_UP: 1, ALONE_DOWN: 2}


def test_votes_of_no_use_are_counted_with_the_reason() -> None:
    pairs, unused = pair(
        [
            vote(1, UP, None, messages=None),
            vote(2, DOWN, better_answer="No."),
            vote(3, UP, "No."),
        ]
    )
    assert pairs == []
    assert unused == {UNKNOWN: 1, SAME: 1, ALONE_UP: 1}


def test_a_line_has_the_prompt_as_it_was_served() -> None:
    messages = [{"role": "system", "content": "Briefly."}, *ASKED]
    [made], _ = pair([vote(1, DOWN, messages=messages, better_answer="At nine. [1]")])
    passages = [("Hours", "We open at nine.")]
    written = line(made, Context("You help.", passages, GROUNDING, ()))
    system = render_system("You help.\nBriefly.", passages, GROUNDING)
    assert written["input"]["messages"] == [{"role": "system", "content": system}, *ASKED]
    assert written["preferred_output"] == [{"role": "assistant", "content": "At nine. [1]"}]
    assert written["non_preferred_output"] == [{"role": "assistant", "content": "No."}]


def test_without_anything_before_it_there_is_no_system_message() -> None:
    [made], _ = pair([vote(1, DOWN, better_answer="Yes.")])
    assert line(made, Context("", (), GROUNDING, ()))["input"]["messages"] == ASKED

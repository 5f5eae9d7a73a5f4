"""Shortening a conversation: newest turns first, system messages stay, no tool without a call."""

from __future__ import annotations

from serving.generation.truncation import newest_turns
from serving.types import Message


def words(text: str) -> int:
    return len(text.split())


def say(role: str, text: str) -> Message:
    return {"role": role, "content": text}


SYSTEM = say("system", "be kind always")
TURNS = [say("user", "a b"), say("assistant", "c d"), say("user", "e f")]


def test_what_fits_is_kept_as_it_is() -> None:
    assert newest_turns([SYSTEM, *TURNS], 6, words) == (SYSTEM, *TURNS)


def test_the_oldest_go_first_and_system_messages_never() -> None:
    assert newest_turns([SYSTEM, *TURNS], 5, words) == (SYSTEM, *TURNS[1:])
    assert newest_turns([TURNS[0], SYSTEM, TURNS[2]], 2, words) == (SYSTEM, TURNS[2])


def test_the_last_message_stays_however_long_it_is() -> None:
    assert newest_turns(TURNS, -1, words) == (TURNS[2],)
    assert newest_turns([SYSTEM], 0, words) == (SYSTEM,)


def test_the_result_of_a_tool_goes_with_its_call() -> None:
    call: Message = {"role": "assistant", "content": "x y z", "tool_calls": [{}]}
    turns = [say("user", "a"), call, say("tool", "r"), say("tool", "s"), say("user", "q")]
    assert newest_turns(turns, 6, words) == tuple(turns[1:])
    assert newest_turns(turns, 3, words) == (turns[4],)

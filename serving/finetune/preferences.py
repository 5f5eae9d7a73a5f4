"""Votes become preference pairs for dpo: a better answer beside the one that was voted down, or two
answers to the same conversation of which one was liked. Every vote that cannot be used is counted
with its reason. Pure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.generation.control_tokens import ControlTokens
from serving.generation.prompt import render_system
from serving.generation.truncation import SYSTEM
from serving.store.feedback import UP, Vote
from serving.types import Message, message_text

UNKNOWN = "what was asked and answered is not known; store chats or send it with the vote"
SAME = "the better answer is the answer itself"
ALONE_UP = "voted up, and nobody voted down another answer to the same conversation"
ALONE_DOWN = "voted down without a better answer, and no other answer was voted up"


@dataclass(frozen=True, slots=True)
class Pair:
    """`vote` is the one voted down; its conversation is the input."""

    vote: Vote
    preferred: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Context:
    """What stood before the conversation when it was answered."""

    instructions: str
    passages: Sequence[tuple[str, str]]
    grounding: str
    special_tokens: Sequence[str]


def pair(votes: Sequence[Vote]) -> tuple[list[Pair], Counter[str]]:
    """The pairs, and how many votes were of no use for which reason."""
    unused: Counter[str] = Counter()
    together: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        if vote.messages is None or vote.answer is None:
            unused[UNKNOWN] += 1
        else:
            together[_conversation(vote)].append(vote)
    pairs = [one for group in together.values() for one in _of_one_conversation(group, unused)]
    return pairs, unused


def _of_one_conversation(votes: Sequence[Vote], unused: Counter[str]) -> Iterator[Pair]:
    liked = [vote for vote in votes if vote.rating == UP]
    used: set[str] = set()
    for vote in votes:
        if vote.rating == UP:
            continue
        other = next((v for v in liked if v.answer != vote.answer), None)
        preferred = vote.better_answer or (other.answer if other else None)
        if preferred is None:
            unused[ALONE_DOWN] += 1
        elif preferred == vote.answer:
            unused[SAME] += 1
        else:
            if vote.better_answer is None and other is not None:
                used.add(other.response)
            assert vote.answer is not None
            yield Pair(vote, preferred, vote.answer)
    if alone := sum(vote.response not in used for vote in liked):
        unused[ALONE_UP] += alone


def _conversation(vote: Vote) -> str:
    return json.dumps([vote.assistant, vote.messages], sort_keys=True)


def line(made: Pair, context: Context) -> dict[str, Any]:
    """One line of OpenAI's preference format, its input as it would be served."""
    messages = made.vote.messages or ()
    return {
        "input": {
            "messages": _served(messages, context),
            "tools": [],
            "parallel_tool_calls": True,
        },
        "preferred_output": [{"role": "assistant", "content": made.preferred}],
        "non_preferred_output": [{"role": "assistant", "content": made.rejected}],
    }


def _served(messages: Sequence[Message], context: Context) -> list[Mapping[str, Any]]:
    """With one system message: instructions, the conversation's own, passages."""
    control = ControlTokens(context.special_tokens)
    own = [message_text(message) for message in messages if message.get("role") in SYSTEM]
    instructions = "\n".join(filter(None, [context.instructions, *own]))
    system = render_system(instructions, context.passages, context.grounding, control)
    rest = [message for message in messages if message.get("role") not in SYSTEM]
    return [{"role": "system", "content": system}, *rest] if system else rest

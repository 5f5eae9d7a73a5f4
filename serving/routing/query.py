"""Reads the conversation before retrieval: what to search for, and whether it is small talk.

Rules only, a few microseconds; a model that rewrites queries would be another implementation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from serving.types import Message, message_text

_WORD = re.compile(r"[\w'-]+")
_LABEL = re.compile(r"[^.?!:\n]{1,48}:\s+(?=\S+\s+\S)")  # `Ticket 12: …`, `Question: …`
_REFERRING = frozenset(
    "it its they them their he him his she her hers this that these those there one ones".split()
)
_OPENERS = ("and ", "what about", "how about", "also ", "or ", "then ")
_EMPTY = frozenset(
    "a an the is are was were do does did what who when where which how why of for to in on at by "
    "and or me my we our you your i please tell can could would should much many".split()
)
_SMALLTALK = frozenset(
    "hi hello hey hiya good morning afternoon evening day night thanks thank you very much bye "
    "goodbye see later how are doing who what can do help nice meet to great ok okay cool cheers "
    "so a lot welcome there is your name today well i am for the that was it fine have me helpful "
    "tomorrow soon again".split()
)
_SMALLTALK_CORE = frozenset(
    "hi hello hey hiya thanks thank bye goodbye cheers welcome morning afternoon evening".split()
)
_SMALLTALK_PHRASES = (
    "who are you", "what are you", "how are you", "what can you do", "your name", "you help me",
)  # fmt: skip
_SMALLTALK_MAX_WORDS = 9
_LEANING_WORDS = 200  # of a longer text nobody knows what a pronoun in it means


@dataclass(frozen=True, slots=True)
class Query:
    """What to retrieve with. `is_follow_up` says that the previous user turn was added.

    `asked` is the same with its leading label (`Ticket 12: …`), which says what kind of request
    it is but nothing of its subject.
    """

    text: str
    asked: str
    is_follow_up: bool
    is_smalltalk: bool


def read_query(messages: Sequence[Message], rewrite: bool = True) -> Query:
    """The search query of a conversation that ends with the user's question."""
    turns = [message_text(m).strip() for m in messages if m.get("role") == "user"]
    last = turns[-1] if turns else ""
    smalltalk = is_smalltalk(last)
    follows = rewrite and not smalltalk and len(turns) > 1 and _leans_on_history(last)
    asked = turns[-2:] if follows else [last]
    text = "\n".join(map(without_label, asked))
    return Query(text, "\n".join(asked), is_follow_up=follows, is_smalltalk=smalltalk)


def rewrite(asked: str | Sequence[Message]) -> str:
    """What to search for, by the rules: of a conversation, or of one query alone."""
    return without_label(asked.strip()) if isinstance(asked, str) else read_query(asked).text


def without_label(text: str) -> str:
    """The text after a short lead-in that ends in a colon."""
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def is_smalltalk(text: str) -> bool:
    """Greetings, thanks and questions about the assistant itself."""
    lowered = text.lower()
    words = _first_words(lowered, _SMALLTALK_MAX_WORDS + 1)
    if not words or len(words) > _SMALLTALK_MAX_WORDS or not _SMALLTALK.issuperset(words):
        return False
    return not _SMALLTALK_CORE.isdisjoint(words) or any(p in lowered for p in _SMALLTALK_PHRASES)


def _first_words(lowered: str, count: int) -> list[str]:
    """All the words of a whole document would hold up everybody's streams for milliseconds."""
    return [found[0] for found in islice(_WORD.finditer(lowered), count)]


def _leans_on_history(text: str) -> bool:
    """A pronoun, an elliptic opener or fewer than three words of content."""
    lowered = text.lower()
    words = _first_words(lowered, _LEANING_WORDS)
    content = [word for word in words if word not in _EMPTY]
    return (
        lowered.startswith(_OPENERS)
        or not _REFERRING.isdisjoint(words)
        or (len(content) < 3 and not any(char.isupper() for char in text[1:]))
    )

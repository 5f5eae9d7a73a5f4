"""Shortens a conversation from its beginning, for `truncation: auto` of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.types import Message, message_text

SYSTEM = ("system", "developer")


def newest_turns(
    messages: Sequence[Message], budget: int, cost: Callable[[str], int]
) -> tuple[Message, ...]:
    """The system messages and as much of the rest, from its end, as takes at most `budget` tokens.

    The last message always stays. What is left never begins with the result of a tool whose call
    is gone. `cost` is what one message takes, in tokens.
    """
    turns = [message for message in messages if message.get("role") not in SYSTEM]
    keep, spent = 0, 0
    for message in reversed(turns):
        spent += cost(message_text(message))
        if keep and spent > budget:
            break
        keep += 1
    kept = turns[len(turns) - keep :]
    while len(kept) > 1 and kept[0].get("role") == "tool":
        kept.pop(0)
    return (*(m for m in messages if m.get("role") in SYSTEM), *kept)

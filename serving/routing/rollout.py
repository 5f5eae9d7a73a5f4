"""Which version of its adapter an assistant answers with: weighted, sticky, without state.

Every version draws a number from the key's hash, stretched by its share, and the highest wins
(weighted rendezvous hashing). A key keeps its version on every replica and after a restart; when
shares change, only keys whose version lost share move, and only to one that gained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

from serving.adapters.adapter import parse_id
from serving.errors import InvalidRequest
from serving.types import AdapterId, Assistant, Fallback, Question, message_text

MAX_VERSIONS = 16
OLDER_TRIED = 3  # versions below a fixed `name@n` that may stand in for it

Shares = Mapping[AdapterId, float]


def assign(assistant: Assistant, question: Question) -> Assistant:
    """The assistant with the one adapter that answers this question."""
    if not assistant.rollout:
        return assistant
    return replace(assistant, adapter=choose(assistant, sticky_key(question)))


def sticky_key(question: Question) -> str:
    """What stays the same through a conversation: what the request calls it, or how it began."""
    if question.conversation:
        return question.conversation
    for message in question.messages:
        if message.get("role") == "user":
            return f"first:{message_text(message)}"
    return f"prompt:{question.completion_prompt or ''}"


def choose(assistant: Assistant, key: str) -> AdapterId | None:
    """The version that a key belongs to."""
    if not assistant.rollout:
        return assistant.adapter
    return next(_by_draw(assistant, assistant.rollout, key), None)


def stand_ins(assistant: Assistant, wanted: AdapterId, key: str) -> list[AdapterId | None]:
    """Who may answer if `wanted` cannot, best first; None is the base model."""
    if assistant.adapter_fallback is Fallback.ERROR:
        return []
    if assistant.adapter_fallback is Fallback.BASE:
        return [None]
    previous = _by_draw(assistant, assistant.previous_rollout or {}, key)
    others = _by_draw(assistant, assistant.rollout, key)
    ordered = dict.fromkeys([*previous, *others, *_older(wanted)])
    return [version for version in ordered if version != wanted]


def shares(assistant: Assistant) -> Shares:
    """Its rollout, also where that is a single adapter or none."""
    if assistant.rollout or assistant.adapter is None:
        return assistant.rollout
    return {assistant.adapter: 1.0}


def moved(assistant: Assistant, rollout: Shares) -> Assistant:
    """The assistant on another rollout, from which it can go back to this one."""
    if shares(assistant) == rollout:
        return assistant
    return replace(assistant, rollout=rollout, previous_rollout=shares(assistant))


def with_history(old: Assistant | None, new: Assistant) -> Assistant:
    """`new`, which replaces `old`. What `old` could go back to says nothing in `new`, where it
    is when somebody reads an assistant, changes it and writes it."""
    if old is None or new.previous_rollout not in (None, old.previous_rollout):
        return new
    same = shares(old) == shares(new)
    return replace(new, previous_rollout=old.previous_rollout if same else shares(old))


def check_shares(rollout: Shares, field: str = "rollout") -> None:
    """Raises InvalidRequest if these cannot be the shares of a rollout."""
    if not rollout:
        return
    if len(rollout) > MAX_VERSIONS:
        raise InvalidRequest(f"a rollout has at most {MAX_VERSIONS} versions", param=field)
    for version, share in rollout.items():
        if not 0 <= share <= 1:
            raise InvalidRequest(
                f"the share of '{version}' must be between 0 and 1, not {share}",
                param=f"{field}.{version}",
            )
    total = sum(rollout.values())
    if not math.isclose(total, 1, abs_tol=1e-3):
        raise InvalidRequest(
            f"the shares of a rollout add up to 1, these to {total:g}", param=field
        )


def _by_draw(assistant: Assistant, rollout: Shares, key: str) -> Iterator[AdapterId]:
    """The versions that have a share, in the order in which the key would have them."""
    context = f"{assistant.tenant}\0{assistant.name}\0{key}\0"
    held = [version for version, share in rollout.items() if share > 0]
    return iter(sorted(held, key=lambda version: -_draw(context + version, rollout[version])))


def _draw(text: str, share: float) -> float:
    number = int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest())
    return -share / math.log((number + 0.5) / 2**64)


def _older(adapter: AdapterId) -> list[AdapterId]:
    """The versions before a fixed one; none before a bare name, whose version is not known."""
    try:
        name, version = parse_id(adapter)
    except ValueError:
        return []
    oldest = max(1, version - OLDER_TRIED)
    return [AdapterId(f"{name}@{number}") for number in range(version - 1, oldest - 1, -1)]

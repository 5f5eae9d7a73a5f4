"""Builds the prompt: instructions, passages, history, question last.

Passages come before the conversation, so that prompts that share them share vLLM's prefix cache.
Training (`deploy/demo/model`) renders with the same functions: what the model reads when it
serves is byte for byte what it learned from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from serving.types import Message, Passage

GROUNDING = "Answer from the passages and cite them as [1]. If they do not say, say so."
_CONTROL = re.compile(r"<\|(?=[a-z_0-9]+\|>)")  # the opening of a chat control token
_BLANK = re.compile(r"\s+")


def render_passage(number: int, label: str, text: str) -> str:
    """One passage as the model sees it; its text can never become a control token."""
    return f"[{number}] {escape(label)}: {escape(text)}"


def escape(text: str) -> str:
    """Folds whitespace and breaks anything that would tokenise to a chat control token."""
    return _CONTROL.sub("< |", _BLANK.sub(" ", text).strip())


def render_system(instructions: str, passages: Sequence[tuple[str, str]]) -> str:
    """The system message: instructions, and numbered passages given as (label, text)."""
    if not passages:
        return instructions
    lines = [instructions, GROUNDING] if instructions else [GROUNDING]
    lines += [render_passage(n, label, text) for n, (label, text) in enumerate(passages, 1)]
    return "\n".join(lines)

"""Writes RAFT examples down: OpenAI's chat lines for training, questions for the gate.

Prompts are rendered by the functions that serve, so what an adapter learns from is byte for byte
what it will read.
"""

from __future__ import annotations

import re
from typing import Any

from serving.finetune.raft import Example, Recipe
from serving.generation.control_tokens import ControlTokens
from serving.generation.prompt import render_system

_STOP = re.compile(r"[.!?]+$")


def reply(example: Example, recipe: Recipe) -> str:
    """What the adapter should say."""
    if example.answer is None:
        return recipe.refusal
    answer = example.answer
    if recipe.style[recipe.style.find("{answer}") + len("{answer}") :].startswith("."):
        answer = _STOP.sub("", answer)
    return recipe.style.format(answer=answer, citation=f"[{example.number}]")


def chat(example: Example, recipe: Recipe) -> dict[str, Any]:
    """A line of OpenAI's chat format, the prompt as it would be served."""
    control = ControlTokens(recipe.special_tokens)
    passages = [(passage.label, passage.text) for passage in example.passages]
    system = render_system(recipe.instructions, passages, recipe.grounding, control)
    return {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": control.broken(example.question)},
            {"role": "assistant", "content": reply(example, recipe)},
        ]
    }


def question(number: int, example: Example, recipe: Recipe) -> dict[str, Any]:
    """A line for `engram finetune gate`."""
    return {
        "id": f"{example.kind}-{number:04d}",
        "kind": example.kind,
        "question": example.question,
        "instructions": recipe.instructions,
        "passages": [{"label": p.label, "text": p.text} for p in example.passages],
        "accept": [] if example.answer is None else [example.answer],
        "refusal": recipe.refusal,
        "form": None if example.answer is None else form(recipe.style),
        "file": example.file,
    }


def form(style: str) -> str:
    """The style as a pattern that an answer matches."""
    pattern = re.escape(style)
    return (
        f"^{pattern.replace(re.escape('{answer}'), '.+').replace(re.escape('{citation}'), CITED)}$"
    )


CITED = r"\[\d+\]"

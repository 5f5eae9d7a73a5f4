"""Builds the prompt: instructions, passages, history, question last.

Passages come before the conversation, so that prompts that share them share vLLM's prefix cache.
Training (`deploy/demo/model`) renders with the same functions: what the model reads when it
serves is byte for byte what it learned from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from serving.generation.truncation import SYSTEM, newest_turns
from serving.types import Assistant, Message, Passage, Prompt, Question, message_text

GROUNDING = "Answer from the passages and cite them as [1]. If they do not say, say so."
_CONTROL = re.compile(r"<\|(?=[a-z_0-9]+\|>)")  # the opening of a chat control token
_BLANK = re.compile(r"\s+")
TEMPLATE_TOKENS = 8  # what a chat template adds around one message, generously
MAX_TOKEN_CHARS = 16  # no text takes fewer tokens than its characters over this
DEFAULT_ANSWER_TOKENS = 256  # kept free for the answer when the request sets no limit


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


class Model(Protocol):
    """What a prompt must fit; known once the engine has started."""

    @property
    def max_model_len(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...


class PromptBuilder:
    """Puts as many passages into the prompt as its token budget allows, best first."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def build(
        self, assistant: Assistant, question: Question, passages: Sequence[Passage]
    ) -> Prompt:
        sampling = {**assistant.sampling, **question.sampling}
        instructions = "\n".join(filter(None, [assistant.instructions, *_system_texts(question)]))
        if question.options.truncate:
            question = self._shortened(instructions, question, sampling, passages)
        kept = self._fit(instructions, question, sampling, passages) if passages else ()
        system = render_system(instructions, [(p.label, p.text) for p in kept])
        return Prompt(
            request_id=question.id,
            messages=_with_system(system, question.messages),
            sampling=sampling,
            completion_prompt=_completion(system, question.completion_prompt),
            passages=kept,
            tenant=assistant.tenant,
        )

    def _shortened(
        self,
        instructions: str,
        question: Question,
        sampling: Mapping[str, Any],
        passages: Sequence[Passage],
    ) -> Question:
        """Without the oldest turns, where they would leave no room for the best passage."""
        lines = [render_passage(1, p.label, p.text) for p in passages[:1]]
        fixed = sum(map(self._cost, [instructions, GROUNDING, *lines]))
        budget = self._model.max_model_len - self._answer_tokens(sampling) - fixed
        return replace(question, messages=newest_turns(question.messages, budget, self._cost))

    def _cost(self, text: str) -> int:
        context = self._model.max_model_len
        if len(text) > MAX_TOKEN_CHARS * context:
            return context + 1  # it cannot fit, and is not worth counting
        return self._model.count_tokens(text) + TEMPLATE_TOKENS

    def _fit(
        self,
        instructions: str,
        question: Question,
        sampling: Mapping[str, Any],
        passages: Sequence[Passage],
    ) -> tuple[Passage, ...]:
        conversation = [message_text(m) for m in question.messages if m.get("role") not in SYSTEM]
        fixed = [instructions, GROUNDING, question.completion_prompt or "", *conversation]
        context = self._model.max_model_len
        if sum(map(len, fixed)) > MAX_TOKEN_CHARS * context or len(fixed) > context:
            return ()  # it cannot fit; the engine will say so without our counting all of it
        budget = context - self._answer_tokens(sampling)
        budget -= sum(self._model.count_tokens(text) + TEMPLATE_TOKENS for text in fixed)
        kept = []
        for number, passage in enumerate(passages, 1):
            line = render_passage(number, passage.label, passage.text)
            budget -= self._model.count_tokens(line) + 1
            if budget < 0:
                break
            kept.append(passage)
        return tuple(kept)

    def _answer_tokens(self, sampling: Mapping[str, Any]) -> int:
        asked = sampling.get("max_completion_tokens") or sampling.get("max_tokens")
        if isinstance(asked, int):
            return asked
        return min(DEFAULT_ANSWER_TOKENS, self._model.max_model_len // 4)


def _system_texts(question: Question) -> list[str]:
    return [message_text(m) for m in question.messages if m.get("role") in SYSTEM]


def _with_system(system: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    rest = tuple(m for m in messages if m.get("role") not in SYSTEM)
    return ({"role": "system", "content": system}, *rest) if system and messages else rest


def _completion(system: str, text: str | None) -> str | None:
    return f"{system}\n\n{text}" if system and text is not None else text

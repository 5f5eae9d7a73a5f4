"""Questions that a model drafts from a passage; what the passage does not support is dropped.

The model may be the served one or any other behind OpenAI's chat API.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from serving.finetune.rules import MAX_ANSWER_WORDS, Draft
from serving.finetune.server import Server
from serving.finetune.values import holds
from serving.types import Passage

PROMPT = """\
Write {count} questions that an employee could ask and that the passage below answers. Ask each so \
that it is clear without the passage. After each question copy its answer word for word out of the \
passage, as short as can be. Write nothing else than lines of this form:
Q: the question
A: the answer

Passage ({label}): {text}"""
MAX_TOKENS = 400
MAX_QUESTION_WORDS = 40
_PAIR = re.compile(r"Q\s*\d*\s*[:.]\s*(.+?)\s*\n+\s*A\s*\d*\s*[:.]\s*(.+)")
_QUOTES = "\"'“”‘’`"


class Drafter:
    """Asks one model; `dropped` counts what it wrote that cannot be used."""

    def __init__(self, server: Server, model: str, count: int) -> None:
        self._server = server
        self._model = model
        self._count = count
        self.dropped: Counter[str] = Counter()

    def ask(self, passage: Passage) -> list[Draft]:
        """At most `count` questions with answers that stand in the passage.

        Raises:
            ServerError: the model does not answer.
        """
        text = PROMPT.format(count=self._count, label=passage.label, text=passage.text)
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        answer = self._server.call("POST", "/v1/chat/completions", json=body)
        written = answer["choices"][0]["message"].get("content") or ""
        return list(self._supported(passage, written))[: self._count]

    def _supported(self, passage: Passage, written: str) -> Iterator[Draft]:
        pairs = _PAIR.findall(written)
        if not pairs:
            self.dropped["the model wrote no question and answer"] += 1
        for question, said in pairs:
            answer = said.strip().strip(_QUOTES).rstrip(".")
            if why := _objection(question, answer, passage):
                self.dropped[why] += 1
            else:
                yield Draft(question, _literal(answer, passage.text), passage, "model")


def _objection(question: str, answer: str, passage: Passage) -> str | None:
    if not answer or not holds(passage.text, answer):
        return "the model's answer does not stand in the passage"
    if len(answer.split()) > MAX_ANSWER_WORDS:
        return "the model's answer is long"
    if not question.endswith("?") or len(question.split()) > MAX_QUESTION_WORDS:
        return "the model wrote no plain question"
    if holds(question, answer):
        return "the model's question says the answer"
    if re.search(r"\bpassage\b", question, re.IGNORECASE):
        return "the model asked about the passage itself"
    return None


def _literal(answer: str, text: str) -> str:
    """As the passage writes it."""
    pattern = r"\s+".join(map(re.escape, answer.split()))
    match = re.search(pattern, text, re.IGNORECASE)
    return match[0] if match else answer

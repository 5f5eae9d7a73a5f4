"""What retrieval adds to the first token, by stage, as the server itself timed it.

A prompt with passages is longer, and the engine reads it longer. So `rag` is compared with the
plain model on a prompt of as many tokens: what is left is retrieval, and should be nothing else.

Each answer is one token long, and its end counts. The first text would not do: an answer from a
passage often begins with a blank token, before a number, and then its text is the second token's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any

import httpx

from loadtests.client import CHAT, Target
from loadtests.statistics import Estimate, estimate

BASE, LONGER, RAG = "base", "base, as many tokens", "rag"
STAGES = ("admit", "evidence", "decide", "prompt", "adapter")  # of the request path, in order
_WARM_UP = 8


@dataclass(frozen=True, slots=True)
class Staged:
    """Server's timings in milliseconds and prompt tokens, by case, in the order asked."""

    timings_ms: Mapping[str, Sequence[Mapping[str, float]]]
    prompt_tokens: Mapping[str, Sequence[int]]

    def stage_ms(self, case: str, stage: str) -> float:
        """The median; 0 of what a case does not do."""
        return median(timings.get(stage, 0.0) for timings in self.timings_ms[case])

    def engine_ms(self, case: str) -> float:
        """From the prompt to the first token."""
        return median(
            timings["ttft"] - sum(timings.get(stage, 0.0) for stage in STAGES)
            for timings in self.timings_ms[case]
        )

    def tokens(self, case: str) -> float:
        return median(self.prompt_tokens[case])

    @property
    def details(self) -> list[str]:
        """Parts of `evidence`."""
        known = {*STAGES, "ttft", "total", "generate"}
        found = (name for timings in self.timings_ms[RAG] for name in timings)
        return [name for name in dict.fromkeys(found) if name not in known]

    def added_ms(self) -> Estimate:
        """By `rag` to the first token of a prompt of as many tokens."""
        return self._difference(lambda timings: timings["ttft"])

    def unexplained_ms(self) -> Estimate:
        """What is left of that without the search itself."""
        return self._difference(lambda timings: timings["ttft"] - timings.get("evidence", 0.0))

    def _difference(self, of: Callable[[Mapping[str, float]], float]) -> Estimate:
        pairs = zip(self.timings_ms[RAG], self.timings_ms[LONGER], strict=True)
        return estimate([of(rag) - of(longer) for rag, longer in pairs])


async def stages(target: Target, assistant: str, questions: Sequence[str], count: int) -> Staged:
    """Asks each question plainly, with as many tokens as with passages, and with passages.

    Raises:
        httpx.HTTPError: a request failed.
    """
    base_url = f"http://{target.host}:{target.port}"
    headers = {"authorization": f"Bearer {target.api_key}"}
    timings: dict[str, list[Mapping[str, float]]] = {BASE: [], LONGER: [], RAG: []}
    tokens: dict[str, list[int]] = {BASE: [], LONGER: [], RAG: []}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False) as http:
        longer = {question: await _longer(http, assistant, question) for question in questions}
        for number, question in enumerate(islice(cycle(questions), _WARM_UP + count)):
            for case, mode, text in (
                (BASE, "base", question),
                (LONGER, "base", longer[question]),
                (RAG, "rag", question),
            ):
                answer = await _ask(http, f"{assistant}:{mode}", text)
                if number >= _WARM_UP:
                    timings[case].append(_to_first_token(answer["engram"]["timings_ms"]))
                    tokens[case].append(answer["usage"]["prompt_tokens"])
    return Staged(timings, tokens)


def _to_first_token(timings_ms: Mapping[str, float]) -> Mapping[str, float]:
    """Of an answer of one token, which need not have any text."""
    return {**timings_ms, "ttft": timings_ms["total"]}


async def _longer(http: httpx.AsyncClient, assistant: str, question: str) -> str:
    """The question behind so many words that it takes as many tokens as with its passages."""
    wanted = await _prompt_tokens(http, f"{assistant}:rag", question)
    once = await _prompt_tokens(http, f"{assistant}:base", question)
    twice = await _prompt_tokens(http, f"{assistant}:base", f"{question} {question}")
    words = question.split()
    count = round((wanted - once) / (twice - once) * len(words))
    return " ".join([*islice(cycle(words), count), question])


async def _prompt_tokens(http: httpx.AsyncClient, model: str, question: str) -> int:
    tokens: int = (await _ask(http, model, question))["usage"]["prompt_tokens"]
    return tokens


async def _ask(http: httpx.AsyncClient, model: str, question: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0}
    answer = await http.post(CHAT, json=body, timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found

"""An exact, fast, deterministic engine: the text comes from a script function, not a model.

It counts whitespace words as tokens and otherwise keeps the whole contract of `Engine`: sampling
errors, stop strings, budgets, leases, cancellation. Tests, load tests and the docs run on it.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Self

from serving.adapters.adapter import Adapter
from serving.adapters.residency import Residency
from serving.errors import EngineFailed
from serving.generation.engine import EngineHealth
from serving.generation.logprobs import CompletionLogprobs, Step, TokenLogprob, chat_logprobs
from serving.generation.sampling import answer_budget, check, stops
from serving.types import AdapterId, Delta, Prompt, Usage, message_text

Script = Callable[[Prompt, Adapter | None], Iterable[str | Delta]]
Sleep = Callable[[float], Awaitable[None]]

SPECIAL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_WORD = re.compile(r"\s*\S+\s*|\s+")
_PASSAGE = re.compile(r"^\[1\] (.+)$", re.MULTILINE)


def echo(prompt: Prompt, adapter: Adapter | None) -> Iterator[str]:
    """Quotes the first passage, or else the question, and names the adapter."""
    texts = {str(message.get("role")): message_text(message) for message in prompt.messages}
    passage = _PASSAGE.search(texts.get("system", ""))
    if adapter is not None:
        yield f"{adapter.id} says: "
    if passage is not None:
        yield f"{passage[1]} [1]"
    else:
        yield f"You said: {texts.get('user', _completion_text(prompt))}"


@dataclass(eq=False)
class ScriptedEngine:
    """Answers from `script`, which yields text, or whole deltas for tool calls and the like.

    `ttft_s` and `itl_s` pass on the injected `sleep`; `fail_after` tokens an answer fails;
    `unloadable` adapters fail to load.
    """

    script: Script = echo
    model: str = "engram-demo"
    max_model_len: int = 1024
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    max_num_seqs: int = 64
    max_loras: int = 4
    ttft_s: float = 0.0
    itl_s: float = 0.0
    load_s: float = 0.0
    lease_wait_s: float = 30.0
    fail_after: int | None = None
    unloadable: frozenset[AdapterId] = frozenset()
    sleep: Sleep = asyncio.sleep
    prompts: deque[Prompt] = field(default_factory=lambda: deque(maxlen=1024))  # as given
    loads: list[AdapterId] = field(default_factory=list)  # every load, in order
    _running: int = 0
    _waiting: int = 0
    _alive: bool = True

    def __post_init__(self) -> None:
        self._batch = asyncio.Semaphore(self.max_num_seqs)
        self.residency = Residency(self, self.max_loras, self.lease_wait_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.residency.close()

    def die(self) -> None:
        """Fails every stream from its next token on, as when a real engine dies."""
        self._alive = False

    def lease(self, adapter: Adapter | None) -> AbstractAsyncContextManager[None]:
        return self.residency.lease(adapter)

    async def load(self, adapter: Adapter) -> None:
        """Fills a slot, for `Residency`."""
        await self.sleep(self.load_s)
        if adapter.id in self.unloadable:
            raise ValueError("the script says so")
        self.loads.append(adapter.id)

    @property
    def at_hand(self) -> tuple[AdapterId, ...]:
        """None, for `Residency`: there are no weights to keep."""
        return ()

    async def vacate(self, adapter_id: AdapterId) -> None:
        """Frees a slot, for `Residency`."""

    async def unload(self, adapter_id: AdapterId) -> None:
        """Frees a slot, for `Residency`."""

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def health(self) -> EngineHealth:
        detail = "" if self._alive else "the engine died"
        loaded = self.residency.loaded
        return EngineHealth(self._alive, self._running, self._waiting, loaded, detail)

    async def generate(
        self, prompt: Prompt, adapter: Adapter | None
    ) -> AsyncGenerator[Delta, None]:
        sampling = check(prompt)
        prompt_tokens = sum(self.count_tokens(text) for text in _texts(prompt))
        budget = answer_budget(prompt_tokens, sampling.get("max_tokens"), self.max_model_len)
        self.prompts.append(prompt)
        async with self._place_in_batch():
            await self.sleep(self.ttft_s)
            spent, open_choices = 0, sampling.get("n", 1)
            for delta, tokens in self._choices(prompt, adapter, sampling, budget):
                self._fail_if_due(spent)
                spent += tokens
                open_choices -= delta.finish_reason is not None
                usage = Usage(prompt_tokens, spent) if open_choices == 0 else None
                yield replace(delta, usage=usage) if usage else delta
                await self.sleep(self.itl_s)

    def _choices(
        self, prompt: Prompt, adapter: Adapter | None, sampling: Mapping[str, Any], budget: int
    ) -> Iterator[tuple[Delta, int]]:
        """The deltas of all choices in turn, as a batch would decode them."""
        choices = [
            _answer(index, self.script(prompt, adapter), sampling, budget, bool(prompt.messages))
            for index in range(sampling.get("n", 1))
        ]
        for together in zip_longest(*choices):
            yield from (delta for delta in together if delta is not None)

    def _fail_if_due(self, spent: int) -> None:
        if not self._alive:
            raise EngineFailed("the engine died")
        if self.fail_after is not None and spent >= self.fail_after:
            raise EngineFailed(f"the script fails after {self.fail_after} tokens")

    @asynccontextmanager
    async def _place_in_batch(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._batch.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._batch.release()


def _answer(
    index: int,
    pieces: Iterable[str | Delta],
    sampling: Mapping[str, Any],
    budget: int,
    is_chat: bool,
) -> Iterator[tuple[Delta, int]]:
    """One choice, token by token, each with the number of tokens it took."""
    stop, held, count = stops(sampling), "", 0
    logprobs = _logprobs(sampling, is_chat)
    for token in _tokens(pieces):
        if isinstance(token, Delta):
            yield replace(token, index=index), 0
            if token.finish_reason is not None:
                return
            continue
        count += 1
        text, held, stopped = _cut(held + token, stop)
        if stopped or count == budget:
            reason = "stop" if stopped else "length"
            yield Delta(text if stopped else text + held, index, reason, logprobs(token)), 1
            return
        yield Delta(text, index, logprobs=logprobs(token)), 1
    yield Delta(held, index, "stop"), 0


def _tokens(pieces: Iterable[str | Delta]) -> Iterator[str | Delta]:
    for piece in pieces:
        if isinstance(piece, Delta):
            yield piece
        else:
            yield from _WORD.findall(piece)


def _cut(text: str, stop: tuple[str, ...]) -> tuple[str, str, bool]:
    """What may be sent, what is held back as it may begin a stop string, and whether it ended."""
    found = [at for at in (text.find(string) for string in stop) if at >= 0]
    if found:
        return text[: min(found)], "", True
    hold = max((len(string) - 1 for string in stop), default=0)
    at = max(0, len(text) - hold)
    return text[:at], text[at:], False


def _logprobs(
    sampling: Mapping[str, Any], is_chat: bool
) -> Callable[[str], Mapping[str, Any] | None]:
    """A script is certain of every token."""
    if sampling.get("logprobs") in (None, False):
        return lambda _: None
    wants_top = sampling.get("top_logprobs") if is_chat else sampling["logprobs"]
    completion = CompletionLogprobs()

    def of(token: str) -> Mapping[str, Any]:
        chosen = TokenLogprob(token, 0.0)
        steps = [Step(chosen, [chosen] if wants_top else [])]
        return chat_logprobs(steps) if is_chat else completion.next(steps)

    return of


def _texts(prompt: Prompt) -> list[str]:
    if prompt.messages:
        return [message_text(message) for message in prompt.messages]
    return [_completion_text(prompt)]


def _completion_text(prompt: Prompt) -> str:
    text = prompt.completion_prompt or ""
    return text if isinstance(text, str) else " ".join(str(token) for token in text)

"""The seam to the language model: what the request path needs of an engine, and nothing more.

`vllm_engine.py` is the real one, `scripted_engine.py` the exact small one; the contract tests in
`tests/contracts/test_engine.py` hold for both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from serving.adapters.adapter import Adapter
from serving.adapters.residency import Residency
from serving.types import AdapterId, Delta, Prompt

__all__ = ["Adapter", "Engine", "EngineHealth"]


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """`running` and `waiting` count requests; `loaded` names the adapters in the engine."""

    healthy: bool
    running: int
    waiting: int
    loaded: tuple[AdapterId, ...] = ()
    detail: str = ""


class Engine(Protocol):
    """Generates text. Entering it starts the model, leaving it stops every process it started.

    Closing an iterator returned by `generate` aborts the request inside the engine.

    Raises:
        InvalidRequest: the engine refuses a sampling parameter; `param` names it.
        PromptTooLong: prompt and answer do not fit; the message states both lengths.
        AdapterNotReady: `lease` could not load the adapter.
        EngineFailed: the engine died or failed inside.
    """

    model: str
    residency: Residency  # of adapters in its slots

    @property
    def max_model_len(self) -> int:
        """Prompt and answer together, in tokens; known once the engine has started."""
        ...

    @property
    def special_tokens(self) -> Sequence[str]:
        """The strings that its tokenizer or chat template takes for control, which no text may
        hold; known once the engine has started."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def lease(self, adapter: Adapter | None) -> AbstractAsyncContextManager[None]:
        """Keeps the adapter loaded for the block, loading it first if need be."""
        ...

    def generate(self, prompt: Prompt, adapter: Adapter | None) -> AsyncGenerator[Delta, None]:
        """Streams the answer to chat messages or a plain completion; the last delta has usage."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` takes, without the chat template."""
        ...

    async def health(self) -> EngineHealth: ...

"""Turns a conversation into a query before the one retriever call: by rules, or by asking the
model for a question that stands alone.

The rules cost microseconds and never fail; what the model does not answer in time, they do.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from serving import telemetry
from serving.errors import ServingError
from serving.generation.control_tokens import ControlTokens
from serving.generation.engine import Engine
from serving.routing.query import Query, read_query
from serving.types import Message, Prompt, TenantId, message_text

log = logging.getLogger(__name__)
ASK = (
    "Rewrite the last question of this conversation so that it can be understood without the "
    "conversation: put names in place of pronouns and add what it leaves out. Do not answer it. "
    "Write the question alone."
)
TURNS = 6  # messages that the model reads, the question among them
TURN_CHARS = 600
ANSWER_TOKENS = 64
QUERY_CHARS = 400


class Rewriter(Protocol):
    async def read(self, tenant: TenantId, messages: Sequence[Message]) -> Query:
        """The search query of a conversation that ends with the user's question; never fails."""
        ...


class RuleRewriter:
    async def read(self, tenant: TenantId, messages: Sequence[Message]) -> Query:  # noqa: ARG002
        return read_query(messages)


class ModelRewriter:
    """Asks the served base model, within `timeout_s`, where a conversation came before."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s

    async def read(self, tenant: TenantId, messages: Sequence[Message]) -> Query:
        query = read_query(messages)
        if query.is_smalltalk or sum(m.get("role") == "user" for m in messages) < 2:
            return query
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await self._ask(tenant, messages)
        except (ServingError, TimeoutError) as error:
            result = "timeout" if isinstance(error, TimeoutError) else "failed"
            log.warning("rewriting a query %s; the rules did it", result)
        else:
            result = "ok" if said else "empty"
        telemetry.REWRITTEN.labels(result).inc()
        return replace(query, text=said) if result == "ok" else query

    async def _ask(self, tenant: TenantId, messages: Sequence[Message]) -> str:
        prompt = Prompt(
            request_id=f"rewrite-{uuid.uuid4().hex}",
            messages=(
                {"role": "system", "content": ASK},
                {"role": "user", "content": self._transcript(messages)},
            ),
            sampling={"temperature": 0, "max_tokens": ANSWER_TOKENS},
            tenant=tenant,
        )
        said = ""
        async with (
            self._engine.lease(None),
            aclosing(self._engine.generate(prompt, None)) as deltas,
        ):
            async for delta in deltas:
                said += delta.text
        lines = said.strip().splitlines()
        return lines[0].strip(" \"'")[:QUERY_CHARS] if lines else ""

    def _transcript(self, messages: Sequence[Message]) -> str:
        """The last turns as text, in which nothing can begin a turn."""
        turns = [m for m in messages if m.get("role") in ("user", "assistant")][-TURNS:]
        lines = [f"{m['role']}: {' '.join(message_text(m)[:TURN_CHARS].split())}" for m in turns]
        return ControlTokens(self._engine.special_tokens).broken("\n".join(lines))

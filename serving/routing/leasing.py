"""Holds the adapter that was decided on, or the stand-in that its assistant allows, and says which.

Never silently: a decision that was changed carries what was wanted and why it could not be had.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from serving import telemetry
from serving.errors import AdapterNotReady, RequestError, ServingError
from serving.generation.engine import Adapter, Engine
from serving.routing.rollout import stand_ins, sticky_key
from serving.types import (
    AdapterId,
    Assistant,
    Decision,
    Mode,
    Question,
    Substitution,
    TenantId,
)

log = logging.getLogger("engram.adapters")

WITHOUT_ADAPTER = {Mode.HYBRID: Mode.RAG, Mode.FINE_TUNED: Mode.BASE}


class Adapters(Protocol):
    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        """The adapter's files; raises UnknownModel or AdapterNotReady."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Who answers, and the decision as it came to be."""

    decision: Decision
    adapter: Adapter | None


@dataclass(frozen=True, slots=True)
class Leasing:
    adapters: Adapters
    engine: Engine

    @asynccontextmanager
    async def hold(
        self, assistant: Assistant, question: Question, decision: Decision
    ) -> AsyncIterator[Held]:
        """Keeps the adapter in the engine for the block.

        Raises:
            AdapterNotReady, RequestError: it cannot be had, and nobody may stand in for it.
        """
        if decision.adapter is None:
            yield Held(decision, None)
            return
        async with AsyncExitStack() as stack:
            try:
                adapter = await self._lease(stack, assistant.tenant, decision.adapter)
                held = Held(_by(decision, assistant.tenant, adapter), adapter)
            except (AdapterNotReady, RequestError) as error:
                held = await self._instead(stack, assistant, question, decision, error)
            yield held

    async def _lease(self, stack: AsyncExitStack, tenant: TenantId, id: AdapterId) -> Adapter:
        adapter = await self.adapters.get(tenant, id)
        await stack.enter_async_context(self.engine.lease(adapter))
        return adapter

    async def _instead(
        self,
        stack: AsyncExitStack,
        assistant: Assistant,
        question: Question,
        decision: Decision,
        error: ServingError,
    ) -> Held:
        wanted = decision.adapter
        assert wanted is not None
        why = Substitution(wanted, error.message)
        for candidate in stand_ins(assistant, wanted, sticky_key(question)):
            if candidate is None:
                if _names_mode(assistant, question):
                    break  # who names a mode gets it, or an error
                return Held(_without_adapter(decision, why), None)
            try:
                adapter = await self._lease(stack, assistant.tenant, candidate)
            except (AdapterNotReady, RequestError):
                continue
            telemetry.ADAPTER_FALLBACKS.labels("previous").inc()
            log.warning("adapter %s stands in for %s: %s", candidate, wanted, error.message)
            stated = replace(_by(decision, assistant.tenant, adapter), fallback=why)
            return Held(stated, adapter)
        raise error


def _by(decision: Decision, tenant: TenantId, adapter: Adapter) -> Decision:
    """The decision with the exact version, also where only a name was wanted."""
    return replace(decision, adapter=AdapterId(adapter.id.removeprefix(f"{tenant}/")))


def _without_adapter(decision: Decision, why: Substitution) -> Decision:
    telemetry.ADAPTER_FALLBACKS.labels("base").inc()
    log.warning("the base model stands in for adapter %s: %s", why.wanted, why.reason)
    mode = WITHOUT_ADAPTER[decision.mode]
    return replace(decision, mode=mode, adapter=None, fallback=why)


def _names_mode(assistant: Assistant, question: Question) -> bool:
    """Whether the request itself, not its assistant or the policy, chose the mode."""
    suffixed = ":" in question.model and assistant.fixed_mode is not None
    return question.options.mode is not None or suffixed

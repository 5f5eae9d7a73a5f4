"""The request path, said once. Everything else in `serving/` is a footnote to `Answerer.answer`.

Knows nothing of HTTP, Ray, vLLM or FAISS: those are behind the parts it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from serving.admission import Admission
from serving.errors import DeadlineExceeded
from serving.generation.citations import cite
from serving.generation.engine import Adapter, Engine
from serving.generation.prompt import PromptBuilder
from serving.recorder import Recorder
from serving.routing.evidence import EvidenceGatherer
from serving.types import (
    AdapterId,
    Assistant,
    Caller,
    Decision,
    Event,
    Evidence,
    Policy,
    Question,
    Started,
    TenantId,
)


class Assistants(Protocol):
    async def resolve(self, caller: Caller, model: str) -> Assistant:
        """The assistant behind a model name; raises UnknownModel."""
        ...


class Adapters(Protocol):
    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        """The adapter's files; raises UnknownModel or AdapterNotReady."""
        ...


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers questions; one per gateway replica."""

    admission: Admission
    assistants: Assistants
    evidence: EvidenceGatherer
    decide: Callable[[Evidence, Policy], Decision]
    prompts: PromptBuilder
    adapters: Adapters
    engine: Engine
    recorder: Recorder
    deadline_s: float

    async def answer(self, caller: Caller, question: Question) -> AsyncGenerator[Event, None]:
        """Started, then deltas and citations, then Finished. Closing it aborts the generation.

        One task drives it from start to end. Raises any `ServingError`, also after `Started`.
        """
        async with (
            self.recorder.record(caller, question) as record,
            _deadline(question.deadline_s or self.deadline_s),
            self.admission.admit(caller),
        ):
            record.stage("admit")
            assistant = await self.assistants.resolve(caller, question.model)
            evidence = await self.evidence.gather(assistant, question)
            record.stage("evidence", evidence.timings_ms)
            decision = record.decided(self.decide(evidence, assistant.policy))
            passages = evidence.passages if decision.mode.retrieves else ()
            prompt = self.prompts.build(assistant, question, passages)
            record.stage("prompt")
            adapter = await self._adapter(caller, decision)
            async with (
                self.engine.lease(adapter),
                aclosing(self.engine.generate(prompt, adapter)) as deltas,
                aclosing(cite(deltas, prompt.passages)) as events,
            ):
                record.stage("adapter")
                yield Started(decision, prompt.passages, record.timings_ms)
                async for event in events:
                    record.add(event)
                    yield event
            yield record.finished()

    async def _adapter(self, caller: Caller, decision: Decision) -> Adapter | None:
        if decision.adapter is None:
            return None
        return await self.adapters.get(caller.tenant, decision.adapter)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the answer took longer than {seconds:g} s") from None

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
from serving.generation.engine import Engine
from serving.generation.prompt import PromptBuilder
from serving.recorder import Recorder
from serving.routing.evidence import EvidenceGatherer
from serving.routing.leasing import Leasing
from serving.routing.rollout import assign
from serving.types import (
    Assistant,
    Caller,
    Decision,
    Event,
    Evidence,
    Policy,
    Question,
    Started,
)


class Assistants(Protocol):
    async def resolve(self, caller: Caller, model: str) -> Assistant:
        """The assistant behind a model name; raises UnknownModel."""
        ...


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers questions; one per gateway replica."""

    admission: Admission
    assistants: Assistants
    evidence: EvidenceGatherer
    decide: Callable[[Evidence, Policy], Decision]
    prompts: PromptBuilder
    adapters: Leasing
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
            resolved = await self.assistants.resolve(caller, question.model)
            assistant = record.assigned(assign(resolved, question))
            evidence = await self.evidence.gather(assistant, question)
            record.stage("evidence", evidence.timings_ms)
            decision = record.decided(self.decide(evidence, assistant.policy))
            passages = evidence.passages if decision.mode.retrieves else ()
            prompt = self.prompts.build(assistant, question, passages)
            record.stage("prompt")
            async with (
                self.adapters.hold(assistant, question, decision) as held,
                aclosing(self.engine.generate(prompt, held.adapter)) as deltas,
                aclosing(cite(deltas, prompt.passages)) as events,
            ):
                decision = record.held(held.decision)
                yield Started(decision, prompt.passages, record.timings_ms)
                async for event in events:
                    record.add(event)
                    yield event
            yield record.finished()


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the answer took longer than {seconds:g} s") from None

"""Watches one request from start to end: stage timings, metrics, log line and ledger record.

Called once per token, so that part does as little as can be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter, time_ns
from typing import Any

from serving import telemetry
from serving.errors import CapacityError, RequestError, ServingError
from serving.store.ledger import RequestRecord
from serving.types import (
    Assistant,
    Caller,
    Citation,
    Decision,
    Delta,
    Finished,
    Question,
    Usage,
)

log = logging.getLogger("engram.request")


class Record:
    """What is known of one request so far."""

    def __init__(self, caller: Caller, question: Question) -> None:
        self.caller = caller
        self.question = question
        self.assistant = question.model.partition(":")[0]
        self.decision: Decision | None = None
        self.usage = Usage()
        self.timings_ms: dict[str, float] = {}
        self.stages: list[telemetry.Stage] = []
        self.status = "ok"
        self.code: str | None = None
        self.began_ns = time_ns()
        self.started = self._stage_began = self._last_chunk = perf_counter()
        self._has_text = False
        self._observe_gap: Callable[[float], None] | None = None

    def stage(self, name: str, details_ms: Mapping[str, float] | None = None) -> None:
        """Closes the stage that began when the one before it closed."""
        now = perf_counter()
        self.timings_ms[name] = round((now - self._stage_began) * 1000, 3)
        for detail, ms in (details_ms or {}).items():
            self.timings_ms[detail] = ms
            telemetry.RETRIEVAL.labels(detail).observe(ms / 1000)
        began_ns, ended_ns = self._unix_ns(self._stage_began), self._unix_ns(now)
        self.stages.append(telemetry.Stage(name, began_ns, ended_ns))
        self._stage_began = now

    def assigned(self, assistant: Assistant) -> Assistant:
        self.assistant = assistant.name
        return assistant

    def decided(self, decision: Decision) -> Decision:
        self.decision = decision
        chosen_by = "request" if decision.evidence.get("requested") else "policy"
        telemetry.DECISIONS.labels(decision.mode, chosen_by).inc()
        self.stage("decide")
        return decision

    def held(self, decision: Decision) -> Decision:
        """The decision as it came to be, with an adapter that is in the engine."""
        self.decision = decision
        self._observe_gap = telemetry.INTER_TOKEN.labels(decision.mode).observe
        self.stage("adapter")
        return decision

    def add(self, event: Delta | Citation) -> None:
        if not isinstance(event, Delta):
            return
        if event.usage is not None:
            self.usage = event.usage
        now = perf_counter()
        if self._has_text and self._observe_gap is not None:
            self._observe_gap(now - self._last_chunk)
        elif event.text or event.extra:
            self._has_text = True
            self.timings_ms["ttft"] = round((now - self.started) * 1000, 3)
            telemetry.TTFT.labels(self.mode).observe(now - self.started)
            if self.adapter is not None:
                telemetry.ADAPTER_TTFT.labels(self.adapter).observe(now - self.started)
        self._last_chunk = now

    def finished(self) -> Finished:
        self.timings_ms["total"] = round((perf_counter() - self.started) * 1000, 3)
        return Finished(self.usage, self.timings_ms)

    def _unix_ns(self, moment: float) -> int:
        return self.began_ns + int((moment - self.started) * 1e9)

    def close(self) -> None:
        """Ends the last stage and exports the trace."""
        self.stage("generate" if self.decision else "refused")
        self.finished()
        attributes = {"request_id": self.question.id, "mode": self.mode, "status": self.status}
        ended_ns = self._unix_ns(self._stage_began)
        telemetry.trace("answer", self.began_ns, ended_ns, self.stages, attributes)

    @property
    def mode(self) -> str:
        return self.decision.mode if self.decision else "none"

    @property
    def adapter(self) -> str | None:
        """The label of the adapter, as the engine knows it."""
        if self.decision is None or self.decision.adapter is None:
            return None
        return telemetry.adapter_label(f"{self.caller.tenant}/{self.decision.adapter}")

    def as_request_record(self) -> RequestRecord:
        decision = self.decision
        return RequestRecord(
            id=self.question.id,
            tenant=self.caller.tenant,
            model=self.question.model,
            key_id=self.caller.key_id,
            assistant=self.assistant,
            mode=self.mode,
            adapter=decision.adapter if decision else None,
            stores=decision.vector_stores if decision else (),
            reason=decision.reason if decision else "",
            evidence=_evidence(decision) if decision else {},
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            cached_tokens=self.usage.cached_tokens,
            status=self.status,
            error_code=self.code,
            timings_ms=self.timings_ms,
        )


def _evidence(decision: Decision) -> Mapping[str, Any]:
    """What the decision rested on, and what became of it."""
    fallback = decision.fallback
    if fallback is None:
        return decision.evidence
    return {**decision.evidence, "wanted": fallback.wanted, "fallback_reason": fallback.reason}


class Recorder:
    """Hands every request's record to the ledger, however the request ends."""

    def __init__(self, write: Callable[[RequestRecord], None]) -> None:
        self._write = write

    @asynccontextmanager
    async def record(self, caller: Caller, question: Question) -> AsyncIterator[Record]:
        record = Record(caller, question)
        telemetry.REQUEST_ID.set(question.id)
        try:
            yield record
        except ServingError as error:
            refused = isinstance(error, RequestError | CapacityError)
            record.status, record.code = "refused" if refused else "error", error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.status = "cancelled"
            telemetry.ABORTED.inc()
            raise
        except BaseException:
            record.status, record.code = "error", "internal_error"
            raise
        finally:
            self._close(record)
            telemetry.REQUEST_ID.set("")

    def _close(self, record: Record) -> None:
        record.close()
        endpoint = record.question.endpoint
        telemetry.REQUESTS.labels(endpoint, record.mode, record.status).inc()
        telemetry.DURATION.labels(record.mode).observe(perf_counter() - record.started)
        telemetry.TOKENS.labels(record.mode, "prompt").inc(record.usage.prompt_tokens)
        telemetry.TOKENS.labels(record.mode, "completion").inc(record.usage.completion_tokens)
        if record.adapter is not None:
            _count(record, record.adapter)
        self._write(record.as_request_record())
        log.info("answered", extra=_log_fields(record, endpoint))


def _count(record: Record, adapter: str) -> None:
    telemetry.ADAPTER_REQUESTS.labels(adapter, record.status).inc()
    telemetry.ADAPTER_TOKENS.labels(adapter, "prompt").inc(record.usage.prompt_tokens)
    telemetry.ADAPTER_TOKENS.labels(adapter, "completion").inc(record.usage.completion_tokens)


def _log_fields(record: Record, endpoint: str) -> dict[str, Any]:
    return {
        "tenant": record.caller.tenant,
        "key_id": record.caller.key_id,
        "endpoint": endpoint,
        "model": record.question.model,
        "mode": record.mode,
        "adapter": record.decision.adapter if record.decision else None,
        "status": record.status,
        "code": record.code,
        "ttft_ms": record.timings_ms.get("ttft"),
        "duration_ms": record.timings_ms.get("total"),
        "prompt_tokens": record.usage.prompt_tokens,
        "completion_tokens": record.usage.completion_tokens,
    }

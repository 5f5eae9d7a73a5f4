"""Writes an answer in OpenAI's wire format: server-sent events, or one JSON object.

The hot path is `delta`: one bytes join and one string encoding per chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any

import orjson

from serving.api.errors import as_serving_error, error_body
from serving.types import Citation, Decision, Delta, Finished, Started, Usage

DONE = b"data: [DONE]\n\n"


def sse(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def annotation(citation: Citation) -> dict[str, Any]:
    """OpenAI's `file_citation`; `index` counts characters of the answer."""
    return {
        "type": "file_citation",
        "file_id": citation.passage.file_id,
        "filename": citation.passage.filename,
        "index": citation.index,
        "number": citation.number,
    }


def engram_body(request_id: str, started: Started) -> dict[str, Any]:
    """The `engram` field: what was chosen, why, and from which sources."""
    decision = started.decision
    return {
        "request_id": request_id,
        "mode": decision.mode,
        "reason": decision.reason,
        "adapter": decision.adapter,
        "fallback": _fallback_body(decision),
        "evidence": dict(decision.evidence),
        "sources": [
            {
                "number": number,
                "file_id": passage.file_id,
                "filename": passage.filename,
                "heading": passage.label,
                "score": round(passage.score, 4),
            }
            for number, passage in enumerate(started.passages, 1)
        ],
        "timings_ms": dict(started.timings_ms),
    }


def _fallback_body(decision: Decision) -> dict[str, Any] | None:
    """What was wanted, what answers instead (null: the base model), and why."""
    if decision.fallback is None:
        return None
    wanted, reason = decision.fallback.wanted, decision.fallback.reason
    return {"wanted": wanted, "used": decision.adapter, "reason": reason}


def engram_headers(request_id: str, started: Started) -> dict[str, str]:
    headers = {
        "engram-request-id": request_id,
        "engram-mode": started.decision.mode.value,
        "server-timing": ", ".join(f"{k};dur={ms}" for k, ms in started.timings_ms.items()),
    }
    if started.decision.adapter:
        headers["engram-adapter"] = started.decision.adapter
    return headers


class Frames:
    """One streamed answer. Subclasses say how chat and completion chunks differ."""

    kind: str
    object: str

    def __init__(self, request_id: str, model: str, *, include_usage: bool) -> None:
        self._request_id = request_id
        self._usage = include_usage
        self._head: dict[str, Any] = {
            "id": request_id.replace("req-", self.kind),
            "object": self.object,
            "created": int(time()),
            "model": model,
        }
        self._prefix = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":'
        self._suffix = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def start(self, started: Started) -> bytes:
        raise NotImplementedError

    def delta(self, delta: Delta) -> bytes:
        raise NotImplementedError

    def citation(self, citation: Citation) -> bytes:
        raise NotImplementedError

    def finish(self, finished: Finished) -> bytes:
        """Usage and the final timings, if usage was asked for.

        Only then, since apps that did not ask read `choices[0]` of every chunk.
        """
        if not self._usage:
            return DONE
        timings = {"timings_ms": dict(finished.timings_ms)}
        return self._chunk([], usage=usage_body(finished.usage), engram=timings) + DONE

    def error(self, error: BaseException) -> bytes:
        """After the first byte an error is an event; the stream still ends properly."""
        return sse(error_body(as_serving_error(error))) + DONE

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse({**self._head, "choices": choices, **more})


class ChatFrames(Frames):
    kind = "chatcmpl-"
    object = "chat.completion.chunk"

    def __init__(self, request_id: str, model: str, *, include_usage: bool) -> None:
        super().__init__(request_id, model, include_usage=include_usage)
        self._opened: set[int] = set()

    def start(self, started: Started) -> bytes:
        self._opened.add(0)
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return self._chunk([choice], engram=engram_body(self._request_id, started))

    def delta(self, delta: Delta) -> bytes:
        if delta.index in self._opened and delta.text and not (delta.extra or delta.logprobs):
            reason = orjson.dumps(delta.finish_reason)
            return b"".join(
                (
                    self._prefix,
                    b'%d,"delta":{"content":' % delta.index,
                    orjson.dumps(delta.text),
                    b'},"finish_reason":',
                    reason,
                    b"}]",
                    self._suffix,
                )
            )
        return self._general(delta)

    def _general(self, delta: Delta) -> bytes:
        body: dict[str, Any] = dict(delta.extra or {})
        if delta.index not in self._opened:
            self._opened.add(delta.index)
            body["role"] = "assistant"
        if delta.text:
            body["content"] = delta.text
        choice: dict[str, Any] = {"index": delta.index, "delta": body}
        if delta.logprobs:
            choice["logprobs"] = delta.logprobs
        return self._chunk([{**choice, "finish_reason": delta.finish_reason}])

    def citation(self, citation: Citation) -> bytes:
        delta = {"annotations": [annotation(citation)]}
        return self._chunk([{"index": citation.choice, "delta": delta, "finish_reason": None}])


class CompletionFrames(Frames):
    kind = "cmpl-"
    object = "text_completion"

    def start(self, started: Started) -> bytes:
        choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": None}
        return self._chunk([choice], engram=engram_body(self._request_id, started))

    def delta(self, delta: Delta) -> bytes:
        return b"".join(
            (
                self._prefix,
                b'%d,"text":' % delta.index,
                orjson.dumps(delta.text),
                b',"logprobs":',
                orjson.dumps(delta.logprobs),
                b',"finish_reason":',
                orjson.dumps(delta.finish_reason),
                b"}]",
                self._suffix,
            )
        )

    def citation(self, citation: Citation) -> bytes:
        choice = {"index": citation.choice, "text": "", "annotations": [annotation(citation)]}
        return self._chunk([{**choice, "logprobs": None, "finish_reason": None}])

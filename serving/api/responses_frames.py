"""Writes one answer as the events of OpenAI's Responses API.

The response that the last event carries grows along; an answer that is not streamed is that one
without its events. The hot path is `delta`: one bytes join and one string encoding per piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

import orjson

from serving.api.errors import as_serving_error
from serving.api.frames import annotation, engram_body
from serving.api.responses_items import item_id
from serving.api.responses_request import RESULTS, Asked
from serving.errors import EngineFailed, InvalidRequest, RateLimited
from serving.types import Citation, Delta, Finished, Passage, Started, Usage

MESSAGE, THOUGHT = "message", "reasoning"
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
FAILURES = {InvalidRequest: "invalid_prompt", RateLimited: "rate_limit_exceeded"}

Json = dict[str, Any]


@dataclass(slots=True)
class _Open:
    """An output item that still grows; its event fields are the same in all of its events."""

    at: Json
    item: Json
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    prefix: bytes = b""

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ResponseFrames:
    """One answer; `response` is what has become of it."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.response = asked.response()
        self._sequence = 0
        self._citable = False
        self._finish_reason: str | None = None
        self._open: dict[str | int, _Open] = {}  # calls by their number
        self._calls = 0

    def start(self, started: Started) -> bytes:
        self._citable = bool(started.passages)
        self.response["engram"] = engram_body(self._asked.request_id, started)
        frames = self._event("response.created", response=self.response)
        frames += self._event("response.in_progress", response=self.response)
        if started.decision.mode.retrieves:
            frames += self._file_search(started)
        return frames

    def delta(self, delta: Delta) -> bytes:
        if delta.finish_reason is not None:
            self._finish_reason = delta.finish_reason
        frames = self._extra(delta.extra) if delta.extra else b""
        if not delta.text and (delta.extra or not delta.logprobs):
            return frames  # the probabilities of a call's or a thought's tokens have no place
        message = self._open.get(MESSAGE)
        if message is None:
            frames += self._open_text(MESSAGE, "msg", {"role": "assistant"})
            message = self._open[MESSAGE]
        logprobs = b"[]"
        if delta.logprobs:
            message.logprobs += delta.logprobs["content"]
            logprobs = orjson.dumps(delta.logprobs["content"])
        return frames + self._piece(message, delta.text, b',"logprobs":' + logprobs)

    def citation(self, citation: Citation) -> bytes:
        message = self._open[MESSAGE]
        cited = message.item["content"][0]["annotations"]
        cited.append(annotation(citation))
        return self._event(
            "response.output_text.annotation.added",
            **message.at,
            annotation_index=len(cited) - 1,
            annotation=cited[-1],
        )

    def finish(self, finished: Finished) -> bytes:
        """Ends what is open; the event that ends the response is `end`."""
        reason = INCOMPLETE.get(self._finish_reason or "")
        status = "incomplete" if reason else "completed"
        frames = b""
        if all(item["type"] == "file_search_call" for item in self.response["output"]):
            frames += self._open_text(MESSAGE, "msg", {"role": "assistant"})
        while self._open:  # only the last was cut off
            key = next(iter(self._open))
            frames += self._close(key, status if len(self._open) == 1 else "completed")
        self.response |= {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "completed_at": None if reason else int(time()),
            "usage": _usage(finished.usage),
        }
        self.response["engram"]["timings_ms"] = dict(finished.timings_ms)
        return frames

    def error(self, error: BaseException) -> bytes:
        """What was written so far stays, marked as not finished; `end` says that it failed."""
        known = as_serving_error(error)
        codes = (code for kind, code in FAILURES.items() if isinstance(known, kind))
        self.response |= {
            "status": "failed",
            "completed_at": None,
            "error": {"code": next(codes, "server_error"), "message": known.message},
        }
        self.response["engram"]["error_code"] = known.code
        for key in list(self._open):
            self._finished(key, "incomplete")
        return b""

    def end(self) -> bytes:
        return self._event(f"response.{self.response['status']}", response=self.response)

    def _extra(self, extra: Mapping[str, Any]) -> bytes:
        frames = b""
        thought = extra.get("reasoning") or extra.get("reasoning_content")
        if thought:
            if THOUGHT not in self._open:
                frames += self._open_text(THOUGHT, "rs", {"summary": []})
            frames += self._piece(self._open[THOUGHT], thought, b"")
        for call in extra.get("tool_calls") or ():
            frames += self._call(call)
        return frames

    def _call(self, call: Mapping[str, Any]) -> bytes:
        number, function = call.get("index", 0), call.get("function") or {}
        frames = b""
        if number not in self._open:
            if number < self._calls:
                raise EngineFailed("the model went on with a tool call that had ended")
            self._calls = number + 1
            call_id = call.get("id") or item_id("call", self._asked.id, number)
            fields = {"call_id": call_id, "name": function.get("name") or "", "arguments": ""}
            frames += self._open_item(number, "fc", "function_call", fields)
            self._open[number].prefix = _prefix("function_call", self._open[number].at)
        arguments = function.get("arguments")
        return frames + self._piece(self._open[number], arguments, b"") if arguments else frames

    def _file_search(self, started: Started) -> bytes:
        """The search that was made before the answer, told as OpenAI tells it."""
        frames = self._open_item(
            "search", "fs", "file_search_call", {"queries": [], "results": None}
        )
        search = self._open["search"]
        for step in ("in_progress", "searching", "completed"):
            frames += self._event(f"response.file_search_call.{step}", **search.at)
        search.item["queries"] = [started.decision.query]
        if self._asked.includes(RESULTS):
            search.item["results"] = _results(started.passages)
        return frames + self._close("search")

    def _open_item(self, key: str | int, prefix: str, kind: str, fields: Json) -> bytes:
        """Begins an item and ends those before it, save a message that may yet be cited."""
        frames = b"".join(
            self._close(key) for key in list(self._open) if key != MESSAGE or not self._citable
        )
        output = self.response["output"]
        id = item_id(prefix, self._asked.id, len(self._asked.input) + len(output))
        item = {"id": id, "type": kind, "status": "in_progress", **fields}
        index = len(output)
        output.append(item)
        self._open[key] = _Open({"item_id": id, "output_index": index}, item)
        return frames + self._event("response.output_item.added", output_index=index, item=item)

    def _open_text(self, key: str, prefix: str, fields: Json) -> bytes:
        """Begins an item that holds one part of text."""
        frames = self._open_item(key, prefix, key, {**fields, "content": []})
        opened = self._open[key]
        opened.at["content_index"] = 0
        opened.prefix = _prefix(key, opened.at)
        part = _part(key)
        frames += self._event("response.content_part.added", **opened.at, part=part)
        opened.item["content"].append(part)
        return frames

    def _close(self, key: str | int, status: str = "completed") -> bytes:
        opened = self._finished(key, status)
        item, frames = opened.item, b""
        match item["type"]:
            case "function_call":
                frames = self._event(
                    f"{EVENTS['function_call']}.done",
                    **opened.at,
                    name=item["name"],
                    arguments=item["arguments"],
                )
            case "message" | "reasoning" as kind:
                part = item["content"][0]
                done = {"text": part["text"]}
                if kind == MESSAGE:
                    done["logprobs"] = part["logprobs"]
                frames = self._event(f"{EVENTS[kind]}.done", **opened.at, **done)
                frames += self._event("response.content_part.done", **opened.at, part=part)
        index = opened.at["output_index"]
        return frames + self._event("response.output_item.done", output_index=index, item=item)

    def _finished(self, key: str | int, status: str) -> _Open:
        """Puts what was gathered into the item."""
        opened = self._open.pop(key)
        item = opened.item
        item["status"] = status
        if item["type"] == "function_call":
            item["arguments"] = opened.text
        elif item["type"] in (MESSAGE, THOUGHT):
            item["content"][0]["text"] = opened.text
            if item["type"] == MESSAGE:
                item["content"][0]["logprobs"] = opened.logprobs
        return opened

    def _piece(self, opened: _Open, text: str, more: bytes) -> bytes:
        opened.texts.append(text)
        self._sequence += 1
        return b"".join(
            (
                opened.prefix,
                orjson.dumps(text),
                more,
                b',"sequence_number":%d}\n\n' % (self._sequence - 1),
            )
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


EVENTS = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function_call": "response.function_call_arguments",
}


def _prefix(kind: str, at: Json) -> bytes:
    """Everything of a delta's frame that stands before its text."""
    event = f"{EVENTS[kind]}.delta"
    head = orjson.dumps({"type": event, **at})[:-1]
    return b"event: " + event.encode() + b"\ndata: " + head + b',"delta":'


def _part(kind: str) -> Json:
    if kind == THOUGHT:
        return {"type": "reasoning_text", "text": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _results(passages: Sequence[Passage]) -> list[Json]:
    return [
        {
            "file_id": passage.file_id,
            "filename": passage.filename,
            "score": round(passage.score, 4),
            "text": passage.text,
            "attributes": dict(passage.attributes),
        }
        for passage in passages
    ]


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

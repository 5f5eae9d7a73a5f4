"""Collects a streamed answer into one OpenAI object; there is one way to generate, not two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from serving.api.frames import annotation, engram_body, usage_body
from serving.types import Citation, Delta, Event, Finished, Started


@dataclass(slots=True)
class Choice:
    text: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.finish_reason = delta.finish_reason or self.finish_reason
        for key, values in (delta.logprobs or {}).items():
            _extend(self.logprobs, key, values)
        for key, value in (delta.extra or {}).items():
            _merge(self.extra, key, value)

    def as_message(self) -> dict[str, Any]:
        text = "".join(self.text)
        message = {"role": "assistant", "content": text, "refusal": None, **self.extra}
        if not text and "tool_calls" in self.extra:
            message["content"] = None
        if self.annotations:
            message["annotations"] = self.annotations
        return message


@dataclass(slots=True)
class Answer:
    """Everything one request produced."""

    started: Started
    finished: Finished
    choices: dict[int, Choice]


async def collect(events: AsyncIterator[Event]) -> Answer:
    started = finished = None
    choices: dict[int, Choice] = {}
    async for event in events:
        match event:
            case Started():
                started = event
            case Delta():
                choices.setdefault(event.index, Choice()).add(event)
            case Citation():
                choices[event.choice].annotations.append(annotation(event))
            case Finished():
                finished = event
    assert started and finished
    return Answer(started, finished, choices)


def chat_completion(request_id: str, model: str, answer: Answer) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": choice.as_message(),
            "logprobs": choice.logprobs or None,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in sorted(answer.choices.items())
    ]
    return _body("chatcmpl-", "chat.completion", request_id, model, choices, answer)


def text_completion(request_id: str, model: str, answer: Answer) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": "".join(choice.text),
            "logprobs": choice.logprobs or None,
            "finish_reason": choice.finish_reason,
            **({"annotations": choice.annotations} if choice.annotations else {}),
        }
        for index, choice in sorted(answer.choices.items())
    ]
    return _body("cmpl-", "text_completion", request_id, model, choices, answer)


def _body(
    kind: str,
    object_: str,
    request_id: str,
    model: str,
    choices: list[dict[str, Any]],
    answer: Answer,
) -> dict[str, Any]:
    engram = engram_body(request_id, answer.started)
    return {
        "id": request_id.replace("req-", kind),
        "object": object_,
        "created": int(time()),
        "model": model,
        "choices": choices,
        "usage": usage_body(answer.finished.usage),
        "engram": {**engram, "timings_ms": dict(answer.finished.timings_ms)},
    }


def _extend(target: dict[str, Any], key: str, values: Any) -> None:
    if isinstance(values, list):
        target.setdefault(key, []).extend(values)
    else:
        target[key] = values


def _merge(target: dict[str, Any], key: str, value: Any) -> None:
    """Joins streamed fields: text grows, tool calls grow by their index."""
    if key == "tool_calls":
        for call in value:
            _merge_call(target.setdefault(key, []), call)
    elif isinstance(value, str) and isinstance(target.get(key), str):
        target[key] += value
    else:
        target[key] = value


def _merge_call(calls: list[dict[str, Any]], call: Mapping[str, Any]) -> None:
    index = call.get("index", len(calls))
    while len(calls) <= index:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    known, function = calls[index], call.get("function") or {}
    known["id"] = call.get("id") or known["id"]
    known["function"]["name"] += function.get("name") or ""
    known["function"]["arguments"] += function.get("arguments") or ""

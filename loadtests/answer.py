"""What is seen of one streamed answer while it arrives, and how its events are cut from the bytes.

Tokens are counted from `usage`, never from chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

_UNFINISHED = "the answer did not end"


@dataclass(slots=True)
class Answer:
    """What was seen of one streamed answer; times are `perf_counter` seconds."""

    sent: float
    first: float | None = None  # first chunk with text
    last: float = 0.0  # chunk with text
    gaps: list[float] = field(default_factory=list)  # between chunks with text
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = _UNFINISHED  # a refusal has one too
    due: float | None = None  # when a schedule wanted it sent
    late: float = 0.0  # seconds for which the client itself held it back
    ended: float = 0.0  # also of one that failed
    status: int = 0  # of HTTP; 0 without an answer
    retry_after: float | None = None  # seconds, as the server asks

    @property
    def began(self) -> float:
        """Where its latency counts from: a late client or connection must not hide a wait."""
        return self.sent if self.due is None else self.due

    @property
    def ttft(self) -> float:
        return (self.first or self.ended) - self.began

    @property
    def tokens(self) -> int:
        return int(self.usage.get("completion_tokens", 0))

    @property
    def is_refused(self) -> bool:
        """Turned away on purpose. A 503 that does not say when to return is a failure."""
        return self.status == 429 or (self.status == 503 and self.retry_after is not None)

    def read(self, payload: bytes, now: float) -> None:
        """Takes in the payload of one event."""
        if payload == b"[DONE]":
            if self.error == _UNFINISHED:
                self.error = None if self.usage else "the answer has no usage"
            return
        chunk = orjson.loads(payload)
        if chunk.get("error"):
            self.error = str(chunk["error"].get("message", chunk["error"]))
        if chunk.get("usage"):
            self.usage = chunk["usage"]
        if any(map(_text, chunk.get("choices", ()))):
            self._token(now)

    def _token(self, now: float) -> None:
        if self.first is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.last = now


def _text(choice: Mapping[str, Any]) -> str | None:
    delta = choice.get("delta")
    text: str | None = delta.get("content") if delta is not None else choice.get("text")
    return text


class Events:
    """Cuts a byte stream, however it arrives, into the payloads of its `data:` lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()

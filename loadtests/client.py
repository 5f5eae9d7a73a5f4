"""A raw asyncio HTTP/1.1 client for server-sent events, and a closed loop over it.

Client libraries can cost more per token than the server, so nothing but a C parser of HTTP and one
of JSON stands between the socket and the clock. Tokens are counted from `usage`, never from chunks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import orjson

REQUEST_TIMEOUT_S = 180.0
CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go; an OpenAI-compatible server."""

    port: int
    host: str = "127.0.0.1"
    api_key: str = ""

    def request(self, body: Mapping[str, Any], path: str = CHAT) -> bytes:
        """One whole POST request, ready to be written."""
        payload = orjson.dumps(body)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"authorization: Bearer {self.api_key or 'none'}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload


@dataclass(slots=True)
class Answer:
    """What was seen of one streamed answer; times are `perf_counter` seconds."""

    sent: float
    first: float | None = None  # first chunk with text
    last: float = 0.0
    gaps: list[float] = field(default_factory=list)  # between chunks with text
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = "the answer did not end"

    @property
    def ttft(self) -> float:
        return (self.first or self.last) - self.sent

    @property
    def tokens(self) -> int:
        return int(self.usage.get("completion_tokens", 0))

    def read(self, payload: bytes, now: float) -> None:
        """Takes in the payload of one event."""
        if payload == b"[DONE]":
            if self.error == "the answer did not end":
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


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ask(self, request: bytes) -> Answer:
        """Sends a request and reads its answer to the end. Never raises: see `Answer.error`."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._events, self._refusal = Events(), bytearray()
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.perf_counter())
        self._transport.write(request)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._done
        except (TimeoutError, OSError, httptools.HttpParserError) as error:
            self._answer.error = f"{type(error).__name__}: {error}"
            self.close()
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._parser.get_status_code() != 200:
            self._refusal += body
            return
        try:
            for payload in self._events.feed(body):
                self._answer.read(payload, self._now)
        except ValueError as error:
            self._fail(ConnectionError(f"an event is not JSON: {error}"))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if (status := self._parser.get_status_code()) != 200:
            self._answer.error = f"HTTP {status}: {self._refusal[:200].decode(errors='replace')}"
        if not self._parser.should_keep_alive():
            self.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Load:
    """What one closed loop did."""

    answers: Sequence[Answer]
    wall_s: float
    client_cpu_s: float

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.answers)

    @property
    def errors(self) -> list[str]:
        return [answer.error for answer in self.answers if answer.error]


async def closed_loop(target: Target, requests: Iterable[bytes], streams: int) -> Load:
    """Sends every request over `streams` connections, each sending its next when one ends."""
    waiting = iter(requests)
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(_work(target, waiting)) for _ in range(streams)]
    answers = [answer for worker in workers for answer in worker.result()]
    return Load(answers, time.perf_counter() - began, time.process_time() - cpu)


async def _work(target: Target, waiting: Iterator[bytes]) -> list[Answer]:
    answers: list[Answer] = []
    connection = Connection()
    try:
        for request in waiting:
            if not connection.is_open:
                connection = await _connect(target)
            answers.append(await connection.ask(request))
    finally:
        connection.close()
    return answers


async def _connect(target: Target) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, target.host, target.port)
    return connection

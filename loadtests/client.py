"""A raw asyncio HTTP/1.1 client for server-sent events, and a closed loop over it.

Client libraries can cost more per token than the server, so nothing but a C parser of HTTP and one
of JSON stands between the socket and the clock. `open_loop.py` has the loop that does not wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httptools
import orjson

from loadtests.answer import Answer, Events
from loadtests.load import Load

__all__ = ["Answer", "Connection", "Load", "Target", "closed_loop", "connect"]

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

    async def ask(self, request: bytes, due: float | None = None) -> Answer:
        """Sends a request and reads its answer to the end. Never raises: see `Answer.error`."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._events, self._refusal = Events(), bytearray()
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.perf_counter(), due=due)
        self._transport.write(request)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._done
        except (TimeoutError, OSError, httptools.HttpParserError) as error:
            self._answer.error = f"{type(error).__name__}: {error}"
            self._answer.ended = time.perf_counter()
            self.close()
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.close()  # nobody asked
            return
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name.lower() == b"retry-after" and value.isdigit():  # it may also be a date
            self._answer.retry_after = float(value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if self._answer.status != 200:
            self._refusal += body
            return
        try:
            for payload in self._events.feed(body):
                self._answer.read(payload, self._now)
        except ValueError as error:
            self._fail(ConnectionError(f"an event is not JSON: {error}"))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._answer.ended = self._now
        if (status := self._answer.status) != 200:
            self._answer.error = f"HTTP {status}: {self._refusal[:200].decode(errors='replace')}"
        if not self._parser.should_keep_alive():
            self.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


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
                connection = await connect(target)
            answers.append(await connection.ask(request))
    finally:
        connection.close()
    return answers


async def connect(target: Target) -> Connection:
    """Raises OSError if nobody listens."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, target.host, target.port)
    return connection

"""`/v1/chat/completions` and `/v1/completions`, streaming and not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.answer import Answerer
from serving.api.completions import keeping
from serving.api.frames import ChatFrames, CompletionFrames, Frames, engram_headers
from serving.api.listing import json_response
from serving.api.request import (
    caller_of,
    cancelled_on_disconnect,
    chat_question,
    completion_question,
    read_json,
    wants_usage,
)
from serving.api.whole import Answer, chat_completion, collect, text_completion
from serving.store.completions import Completions
from serving.types import Citation, Delta, Event, Finished, Question, Started

Parse = Callable[[Mapping[str, Any], str], Question]
Whole = Callable[[str, str, Answer], dict[str, Any]]


class AnswersApi:
    def __init__(self, answerer: Answerer, completions: Completions, max_body_bytes: int) -> None:
        self._answerer = answerer
        self._completions = completions
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_route("/v1/chat/completions", self.chat, methods=["POST"])
        app.add_route("/v1/completions", self.completion, methods=["POST"])

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, chat_question, ChatFrames, chat_completion)

    async def completion(self, request: Request) -> Response:
        return await self._answer(request, completion_question, CompletionFrames, text_completion)

    async def _answer(
        self, request: Request, parse: Parse, frames: type[Frames], whole: Whole
    ) -> Response:
        body = await read_json(request, self._max_body_bytes)
        question = parse(body, request.scope["request_id"])
        caller, include_usage = caller_of(request), wants_usage(body)
        events = self._answerer.answer(caller, question)
        if question.endpoint == "chat":
            events = keeping(self._completions, caller, question, body, events)
        if body.get("stream"):
            writer = frames(question.id, question.model, include_usage=include_usage)
            return EventStream(events, writer, question.id)
        return await self._whole(request.receive, events, question, whole)

    async def _whole(
        self,
        receive: Receive,
        events: AsyncGenerator[Event, None],
        question: Question,
        whole: Whole,
    ) -> Response:
        response = Response(status_code=499)  # the client went away; nobody reads this
        async with cancelled_on_disconnect(receive):
            async with aclosing(events):
                answer = await collect(events)
            headers = engram_headers(question.id, answer.started)
            response = json_response(whole(question.id, question.model, answer), headers)
        return response  # noqa: RET504 - the block above may end early, and silently


class Writer(Protocol):
    """Turns the events of one answer into bytes."""

    def start(self, started: Started) -> bytes: ...

    def delta(self, delta: Delta) -> bytes: ...

    def citation(self, citation: Citation) -> bytes: ...

    def finish(self, finished: Finished) -> bytes: ...

    def error(self, error: BaseException) -> bytes: ...


def frame(writer: Writer, event: Event) -> bytes:
    match event:
        case Delta():
            return writer.delta(event)
        case Citation():
            return writer.citation(event)
        case Finished():
            return writer.finish(event)
        case Started():
            return writer.start(event)


class EventStream(Response):
    """Server-sent events, driven from start to end by the task that serves the request.

    The status line waits for the first piece of text, so that an error before it is still an
    HTTP error; an error after it is an event.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[Event, None], frames: Writer, request_id: str
    ) -> None:
        self._events = events
        self._frames = frames
        self._request_id = request_id
        self.status_code = 200
        self.background = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        async with cancelled_on_disconnect(receive), aclosing(self._events) as events:
            started = await anext(events)
            first = await anext(events)
            assert isinstance(started, Started)
            self.init_headers(
                {**engram_headers(self._request_id, started), "cache-control": "no-cache"}
            )
            opening = self._frames.start(started) + frame(self._frames, first)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _send(send, opening)
            try:
                async for event in events:
                    await _send(send, frame(self._frames, event))
            except Exception as error:  # noqa: BLE001 - the headers are out; logged when mapped
                await _send(send, self._frames.error(error))
            await send(
                {"type": "http.response.body", "body": await self.last(), "more_body": False}
            )

    async def last(self) -> bytes:
        """What is left to say when the answer has ended, well or not, and its slot is free."""
        return b""


async def _send(send: Send, body: bytes) -> None:
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})

"""`/v1/responses`: answers as OpenAI's Responses API gives them, kept unless told otherwise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.answer import Answerer
from serving.api.answers import EventStream, frame
from serving.api.frames import engram_headers
from serving.api.listing import json_response, listing, window
from serving.api.request import caller_of, cancelled_on_disconnect, read_json
from serving.api.responses_frames import ResponseFrames
from serving.api.responses_items import check_calls, read_references, without_passages
from serving.api.responses_request import Asked, read_request
from serving.errors import InvalidRequest, NotFound, RequestError, ServingError
from serving.store.pages import Page
from serving.store.responses import Responses, StoredResponse
from serving.types import Caller, Event, Question, Started, TenantId

RESPONSES = "/v1/responses"
RESPONSE = RESPONSES + "/{response_id}"
# What the request path calls a field, and what it is called here.
NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
NOT_STREAMED = ("stream", "starting_after", "include_obfuscation")

Keep = Callable[[], Awaitable[None]]


class ResponsesApi:
    def __init__(self, answerer: Answerer, responses: Responses, max_body_bytes: int) -> None:
        self._answerer = answerer
        self._responses = responses
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_route(RESPONSES, self.create, methods=["POST"])
        app.add_api_route(RESPONSE, self.get, methods=["GET"])
        app.add_api_route(RESPONSE, self.delete, methods=["DELETE"])
        app.add_api_route(RESPONSE + "/cancel", self.cancel, methods=["POST"])
        app.add_api_route(RESPONSE + "/input_items", self.input_items, methods=["GET"])

    async def create(self, request: Request) -> Response:
        body = await read_json(request, self._max_body_bytes)
        asked = read_request(body, request.scope["request_id"])
        caller = caller_of(request)
        earlier, given = await self._conversation(caller, asked)
        check_calls(earlier, given)
        question = asked.question([*earlier, *given])
        frames = ResponseFrames(asked)
        events = self._answerer.answer(caller, question)

        async def keep() -> None:
            if asked.stored:
                previous, body = asked.body.previous_response_id, without_passages(frames.response)
                stored = StoredResponse(asked.id, caller.tenant, previous, given, body)
                await run_in_threadpool(self._responses.save, stored)

        if asked.body.stream:
            return ResponseStream(events, frames, asked.request_id, keep)
        return await _whole(request.receive, events, frames, asked.request_id, keep)

    async def _conversation(
        self, caller: Caller, asked: Asked
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """The items of the responses before this one, and its own with references looked up. What
        cannot be answered now is refused before SQL is read for it, and recorded as any other."""
        previous, wanted = asked.body.previous_response_id, read_references(asked.input)
        if previous is None and not wanted:
            return (), asked.input
        with ExitStack() as stack:
            try:
                stack.enter_context(self._answerer.admission.place(caller))
            except ServingError:
                question = Question(
                    asked.request_id, asked.body.model, (), {}, endpoint="responses"
                )
                async with self._answerer.recorder.record(caller, question):
                    raise
            return await self._read(caller.tenant, previous, asked.input, wanted)

    async def _read(
        self,
        tenant: TenantId,
        previous: str | None,
        given: Sequence[Any],
        wanted: Mapping[str, str],
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        earlier: Sequence[Any] = ()
        if previous is not None:
            earlier = await run_in_threadpool(self._responses.conversation, tenant, previous)
        if not wanted:
            return earlier, given
        found = await run_in_threadpool(self._responses.items, tenant, wanted)
        for number, item in enumerate(given):
            if item["id"] in wanted and item["id"] not in found:
                raise NotFound(f"No such item: '{item['id']}'.", param=f"input[{number}].id")
        return earlier, [found.get(item["id"], item) for item in given]

    async def get(self, request: Request, response_id: str) -> dict[str, Any]:
        """The response as it was answered."""
        for name in NOT_STREAMED:
            if request.query_params.get(name, "false") not in ("false", "0"):
                raise InvalidRequest(f"'{name}' is for background responses", param=name)
        stored = await self._stored(request, response_id)
        return dict(stored.body)

    async def delete(self, request: Request, response_id: str) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._responses.delete, tenant, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    async def cancel(self, request: Request, response_id: str) -> dict[str, Any]:
        """Nothing runs in the background here; closing the connection ends an answer."""
        await self._stored(request, response_id)
        raise InvalidRequest(
            "only a background response can be cancelled; close the connection of this one",
            param="response_id",
        )

    async def input_items(self, request: Request, response_id: str) -> Response:
        """This turn's own items; those before it belong to the responses before it."""
        wanted = window(request, "include", "include[]")
        if wanted.before is not None:
            raise InvalidRequest("unknown parameter 'before'", param="before")
        items = list((await self._stored(request, response_id)).input)
        if wanted.order == "desc":
            items.reverse()
        if wanted.after is not None:
            ids = [item["id"] for item in items]
            if wanted.after not in ids:
                raise NotFound(
                    f"'after' names no object of this list: '{wanted.after}'.", param="after"
                )
            items = items[ids.index(wanted.after) + 1 :]
        more = len(items) > wanted.limit
        return listing(Page(tuple(items[: wanted.limit]), has_more=more), dict)

    async def _stored(self, request: Request, response_id: str) -> StoredResponse:
        tenant = caller_of(request).tenant
        return await run_in_threadpool(self._responses.get, tenant, response_id)


async def _whole(
    receive: Receive,
    events: AsyncGenerator[Event, None],
    frames: ResponseFrames,
    request_id: str,
    keep: Keep,
) -> Response:
    """What the last event of a stream would hold."""
    response = Response(status_code=499)  # the client went away; nobody reads this
    async with cancelled_on_disconnect(receive):
        headers: dict[str, str] = {}
        with _in_our_words():
            async with aclosing(events):
                async for event in events:
                    frame(frames, event)
                    if isinstance(event, Started):
                        headers = engram_headers(request_id, event)
        await keep()
        response = json_response(frames.response, headers)
    return response  # noqa: RET504 - the block above may end early, and silently


class ResponseStream(EventStream):
    """Keeps the response before its last event says that it is there."""

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        frames: ResponseFrames,
        request_id: str,
        keep: Keep,
    ) -> None:
        super().__init__(events, frames, request_id)
        self._response = frames
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with _in_our_words():
            await super().__call__(scope, receive, send)

    async def last(self) -> bytes:
        try:
            await self._keep()
        except Exception as error:  # noqa: BLE001 - the headers are out; logged when mapped
            self._response.error(error)
        return self._response.end()


@contextmanager
def _in_our_words() -> Iterator[None]:
    """The request path names fields as chat does; here they have other names."""
    try:
        yield
    except RequestError as error:
        error.param = NAMES.get(error.param or "", error.param)
        raise

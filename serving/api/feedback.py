"""`/admin/feedback`: thumbs up and down, keyed by the id of the answer.

The conversation comes from what the server kept, if the answer was stored, or from the call; who
answered comes from the ledger, so that votes can be counted by adapter version and mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any, Literal, Self

from fastapi import FastAPI, Request
from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import Body, Id, read_body
from serving.api.listing import listing, window
from serving.api.request import caller_of, check_message
from serving.api.responses_items import TEXT_OF, chat_messages
from serving.errors import InvalidRequest, NotFound
from serving.store.completions import Completions
from serving.store.feedback import DOWN, UP, Feedback, Vote, request_of
from serving.store.ledger import Ledger, RequestRecord
from serving.store.responses import Responses, StoredResponse
from serving.types import Message, TenantId

FEEDBACK = "/admin/feedback"
VOTE = FEEDBACK + "/{response_id}"
RATINGS = {"up": UP, "down": DOWN}
FILTERS = ("assistant", "adapter", "mode")
MAX_COMMENT_CHARS = 4_000
LEDGER_WAIT_S = 2.0  # the ledger is written just behind the answer
LEDGER_POLL_S = 0.05
UNANSWERED = ("refused", "error")


class Sent(Body):
    """One vote as it is posted."""

    response_id: Id
    rating: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=MAX_COMMENT_CHARS)] | None = None
    better_answer: Annotated[str, Field(min_length=1)] | None = None
    messages: Annotated[list[Any], Field(min_length=1)] | None = None
    answer: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.messages is None) is not (self.answer is None):
            raise ValueError("'messages' and 'answer' go together: what was asked, what was said")
        if self.better_answer is not None and self.rating == "up":
            raise ValueError("'better_answer' goes with the rating 'down'")
        return self


@dataclass(frozen=True, slots=True)
class Said:
    """A conversation, and what was answered; None where no text is known."""

    messages: Sequence[Message] | None = None
    answer: str | None = None


NOTHING = Said()


class FeedbackApi:
    def __init__(
        self,
        feedback: Feedback,
        ledger: Ledger,
        responses: Responses,
        completions: Completions,
        max_body_bytes: int,
    ) -> None:
        self._feedback = feedback
        self._ledger = ledger
        self._responses = responses
        self._completions = completions
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(FEEDBACK, self.create, methods=["POST"])
        app.add_api_route(FEEDBACK, self.list, methods=["GET"])
        app.add_api_route(VOTE, self.get, methods=["GET"])
        app.add_api_route(VOTE, self.delete, methods=["DELETE"])

    async def create(self, request: Request) -> dict[str, Any]:
        """Keeps a vote; a second one for the same answer takes the place of the first."""
        sent = await read_body(request, self._max_body_bytes, Sent)
        tenant = caller_of(request).tenant
        record = await self._record(tenant, sent.response_id)
        if sent.messages is not None:
            for number, message in enumerate(sent.messages):
                check_message(message, f"messages[{number}]")
            said = Said(sent.messages, sent.answer)
        else:
            said = await run_in_threadpool(self._said, tenant, sent.response_id)
        vote = Vote(
            tenant,
            sent.response_id,
            RATINGS[sent.rating],
            sent.comment,
            sent.better_answer,
            said.messages,
            said.answer,
            record.assistant,
            record.adapter,
            record.mode,
        )
        return vote_body(await run_in_threadpool(self._feedback.put, vote))

    async def list(self, request: Request) -> Response:
        query = request.query_params
        rating = query.get("rating")
        if rating is not None and rating not in RATINGS:
            raise InvalidRequest("'rating' must be 'up' or 'down'", param="rating")
        page = await run_in_threadpool(
            self._feedback.list,
            caller_of(request).tenant,
            window(request, "rating", *FILTERS),
            rating=None if rating is None else RATINGS[rating],
            **{name: query.get(name) for name in FILTERS},
        )
        return listing(page, vote_body)

    async def get(self, request: Request, response_id: str) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        return vote_body(await run_in_threadpool(self._feedback.get, tenant, response_id))

    async def delete(self, request: Request, response_id: str) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._feedback.delete, tenant, response_id)
        return {"id": response_id, "object": "feedback.deleted", "deleted": True}

    async def _record(self, tenant: TenantId, response_id: str) -> RequestRecord:
        """Who answered.

        Raises:
            NotFound: nobody did, or for another tenant.
            InvalidRequest: it was an error, not an answer.
        """
        id, until = request_of(response_id), monotonic() + LEDGER_WAIT_S
        while True:
            try:
                record = await run_in_threadpool(self._ledger.get, tenant, id)
                break
            except NotFound:
                if monotonic() > until:
                    raise NotFound(
                        f"No such answer: '{response_id}'.", param="response_id"
                    ) from None
            await asyncio.sleep(LEDGER_POLL_S)
        if record.status in UNANSWERED:
            raise InvalidRequest("that request ended without an answer", param="response_id")
        return record

    def _said(self, tenant: TenantId, response_id: str) -> Said:
        """What is known of the conversation; nothing unless the answer was stored."""
        number = request_of(response_id).removeprefix("req-")
        try:
            stored = self._completions.get(tenant, f"chatcmpl-{number}")
            message = stored.body["choices"][0]["message"]
            return Said(stored.messages, message.get("content") or None)
        except NotFound:
            pass
        try:
            return self._response(self._responses.get(tenant, f"resp_{number}"))
        except NotFound:
            return NOTHING

    def _response(self, stored: StoredResponse) -> Said:
        try:
            items = self._responses.conversation(stored.tenant, stored.id)
        except InvalidRequest:  # too long to train on, too
            return NOTHING
        output = stored.body["output"]
        messages = chat_messages(items[: len(items) - len(output)])
        if instructions := stored.body.get("instructions"):
            messages = ({"role": "system", "content": instructions}, *messages)
        parts = [p for item in output if item["type"] == "message" for p in item["content"]]
        answer = "\n".join(part[TEXT_OF[part["type"]]] for part in parts)
        return Said(messages, answer or None)


def vote_body(vote: Vote) -> dict[str, Any]:
    return {
        "id": vote.response,
        "object": "feedback",
        "response_id": vote.response,
        "request_id": request_of(vote.response),
        "rating": "up" if vote.rating == UP else "down",
        "comment": vote.comment,
        "better_answer": vote.better_answer,
        "messages": None if vote.messages is None else list(vote.messages),
        "answer": vote.answer,
        "assistant": vote.assistant,
        "adapter": vote.adapter,
        "mode": vote.mode,
        "created_at": vote.created_at,
    }

"""`/admin/assistants/{name}/…`: which versions of its adapter an assistant answers with, the way
back, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from serving.api.admin import assistant_body
from serving.api.request import caller_of, read_json, validated
from serving.directory import Directory
from serving.errors import Conflict, InvalidRequest, NotFound
from serving.routing.rollout import check_shares, moved, shares
from serving.store.assistants import Assistants
from serving.store.outcomes import Outcomes
from serving.types import AdapterId, Assistant, Fallback

ASSISTANT = "/admin/assistants/{name}"
DAY_H = 24.0


class _Rollout(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rollout: dict[AdapterId, Annotated[float, Field(allow_inf_nan=False)]]
    adapter_fallback: Fallback | None = None


class RolloutsApi:
    """A change holds at once on the replica that is asked and within `CACHE_S` on the others."""

    def __init__(
        self, assistants: Assistants, outcomes: Outcomes, directory: Directory, max_body_bytes: int
    ) -> None:
        self._assistants = assistants
        self._outcomes = outcomes
        self._directory = directory
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(ASSISTANT + "/rollout", self.put, methods=["PUT"])
        app.add_api_route(ASSISTANT + "/rollback", self.roll_back, methods=["POST"])
        app.add_api_route(ASSISTANT + "/outcomes", self.outcomes, methods=["GET"])

    async def put(self, request: Request, name: str) -> dict[str, Any]:
        """Sets the versions with their shares; an empty one goes back to `adapter`."""
        body = validated(_Rollout, await read_json(request, self._max_body_bytes))
        check_shares(body.rollout)

        def change(assistant: Assistant) -> Assistant:
            fallback = body.adapter_fallback or assistant.adapter_fallback
            return replace(moved(assistant, body.rollout), adapter_fallback=fallback)

        tenant = caller_of(request).tenant
        await self._directory.check(Assistant(name, tenant, rollout=body.rollout))
        return await self._change(request, name, change)

    async def roll_back(self, request: Request, name: str) -> dict[str, Any]:
        """Back to the rollout before this one; a second time forward again."""
        tenant = caller_of(request).tenant
        assistant = await self._assistants.find(tenant, name)
        if assistant is not None and (back := assistant.previous_rollout):
            used = {version: share for version, share in back.items() if share}
            await self._directory.check(Assistant(name, tenant, rollout=used))
        return await self._change(request, name, _rolled_back)

    async def _change(
        self, request: Request, name: str, change: Callable[[Assistant], Assistant]
    ) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        return assistant_body(
            await run_in_threadpool(self._assistants.change, tenant, name, change)
        )

    async def outcomes(self, request: Request, name: str) -> dict[str, Any]:
        """Requests, errors, time to first token and feedback by version."""
        tenant = caller_of(request).tenant
        if await self._assistants.find(tenant, name) is None:
            raise NotFound(f"No such assistant: '{name}'.")
        hours = _hours(request.query_params.get("hours"))
        since = time.time() - hours * 3600
        found = await run_in_threadpool(self._outcomes.of, tenant, name, since)
        data = [asdict(outcome) for outcome in found]
        return {"object": "list", "hours": hours, "data": data}


def _rolled_back(assistant: Assistant) -> Assistant:
    if assistant.previous_rollout is None:
        raise Conflict(f"assistant '{assistant.name}' has had no other rollout")
    back, current = assistant.previous_rollout, shares(assistant)
    adapter = assistant.adapter if back else None  # else it had none
    return replace(assistant, rollout=back, adapter=adapter, previous_rollout=current)


def _hours(text: str | None) -> float:
    try:
        hours = float(text) if text is not None else DAY_H
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 365:
        raise InvalidRequest("'hours' must be a number above 0, at most 8760", param="hours")
    return hours

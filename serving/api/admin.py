"""`/admin`: what an operator sees and sets: assistants, decisions and usage of the tenant."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from serving.api.request import caller_of, read_json
from serving.directory import Directory
from serving.errors import InvalidRequest, NotFound
from serving.routing.rollout import check_shares, with_history
from serving.store.assistants import Assistants
from serving.store.ledger import Ledger
from serving.types import Assistant

_ASSISTANT = TypeAdapter(Assistant)


class AdminApi:
    def __init__(
        self, ledger: Ledger, assistants: Assistants, directory: Directory, max_body_bytes: int
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._assistants = assistants
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/admin/assistants", self.list_assistants, methods=["GET"])
        app.add_api_route("/admin/assistants/{name}", self.get_assistant, methods=["GET"])
        app.add_api_route("/admin/assistants/{name}", self.put_assistant, methods=["PUT"])
        app.add_api_route("/admin/assistants/{name}", self.delete_assistant, methods=["DELETE"])
        app.add_api_route("/admin/decisions", self.decisions, methods=["GET"])
        app.add_api_route("/admin/decisions/{request_id}", self.decision, methods=["GET"])
        app.add_api_route("/admin/usage", self.usage, methods=["GET"])

    async def list_assistants(self, request: Request) -> dict[str, Any]:
        found = await run_in_threadpool(self._assistants.list, caller_of(request).tenant)
        return {"object": "list", "data": [assistant_body(a) for a in found]}

    async def get_assistant(self, request: Request, name: str) -> dict[str, Any]:
        found = await self._assistants.find(caller_of(request).tenant, name)
        if found is None:
            raise NotFound(f"No such assistant: '{name}'.")
        return assistant_body(found)

    async def put_assistant(self, request: Request, name: str) -> dict[str, Any]:
        """Creates or replaces; takes effect on every replica within seconds."""
        body = await read_json(request, self._max_body_bytes)
        body |= {"name": name, "tenant": caller_of(request).tenant}
        if ":" in name or "@" in name:
            raise InvalidRequest("an assistant's name holds no ':' and no '@'", param="name")
        try:
            assistant = _ASSISTANT.validate_python(body, extra="forbid")
        except ValidationError as error:
            problem = error.errors()[0]
            param = ".".join(str(part) for part in problem["loc"])
            raise InvalidRequest(f"'{param}': {problem['msg']}", param=param) from None
        check_shares(assistant.rollout)
        check_shares(assistant.previous_rollout or {}, "previous_rollout")
        await self._directory.check(assistant)
        return assistant_body(
            await run_in_threadpool(self._assistants.put, assistant, with_history)
        )

    async def delete_assistant(self, request: Request, name: str) -> dict[str, Any]:
        await run_in_threadpool(self._assistants.delete, caller_of(request).tenant, name)
        return {"id": name, "object": "assistant.deleted", "deleted": True}

    async def decisions(self, request: Request) -> dict[str, Any]:
        """The newest requests with what was decided and why."""
        limit = request.query_params.get("limit", "50")
        if (
            not (limit.isascii() and limit.isdigit() and len(limit) <= 4)
            or not 1 <= int(limit) <= 1000
        ):
            raise InvalidRequest("'limit' must be between 1 and 1000", param="limit")
        tenant = caller_of(request).tenant
        records = await run_in_threadpool(self._ledger.recent, tenant, int(limit))
        return {"object": "list", "data": [asdict(record) for record in records]}

    async def decision(self, request: Request, request_id: str) -> dict[str, Any]:
        return asdict(
            await run_in_threadpool(self._ledger.get, caller_of(request).tenant, request_id)
        )

    async def usage(self, request: Request) -> dict[str, Any]:
        return asdict(await run_in_threadpool(self._ledger.usage, caller_of(request).tenant))


def assistant_body(assistant: Assistant) -> dict[str, Any]:
    return {"object": "assistant", **_ASSISTANT.dump_python(assistant, mode="json")}

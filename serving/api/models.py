"""`/v1/models`: the tenant's assistants and adapters, and the base model."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from serving.api.request import caller_of
from serving.directory import Directory


class ModelsApi:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/v1/models", self.list, methods=["GET"])
        app.add_api_route("/v1/models/{model:path}", self.get, methods=["GET"])

    async def list(self, request: Request) -> dict[str, Any]:
        names = await self._directory.models(caller_of(request))
        return {"object": "list", "data": [_model(name) for name in names]}

    async def get(self, request: Request, model: str) -> dict[str, Any]:
        await self._directory.resolve(caller_of(request), model)
        return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "engram"}

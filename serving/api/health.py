"""`/livez`, `/readyz` and `/metrics`: the only paths that need no API key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import orjson
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.generation.engine import Engine
from serving.retrieval.retriever import Retriever
from serving.telemetry import exposition


class HealthApi:
    """`parts`: the retriever, or its shards, by name."""

    def __init__(
        self, engine: Engine, parts: Mapping[str, Retriever], metrics: Path | None
    ) -> None:
        self._engine = engine
        self._parts = parts
        self._metrics = metrics

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/livez", self.live, methods=["GET"])
        app.add_api_route("/readyz", self.ready, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])

    async def live(self) -> Response:
        """Whether this replica's engine can go on at all."""
        health = await self._engine.health()
        return _state({"engine": health.healthy}, detail=health.detail)

    async def ready(self) -> Response:
        """Whether it can answer in every mode now."""
        health = await self._engine.health()
        ready = await asyncio.gather(*(part.ready() for part in self._parts.values()))
        parts = dict(zip(self._parts, ready, strict=True))
        return _state({"engine": health.healthy, **parts}, detail=health.detail)

    async def metrics(self) -> Response:
        body, content_type = await run_in_threadpool(exposition, self._metrics)
        return Response(body, media_type=content_type)


def _state(parts: dict[str, bool], detail: str) -> Response:
    ok = all(parts.values())
    body = {"status": "ok" if ok else "unavailable", **parts}
    if detail:
        body["detail"] = detail
    return Response(orjson.dumps(body), 200 if ok else 503, media_type="application/json")

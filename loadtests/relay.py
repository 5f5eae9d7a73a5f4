"""The usual Ray Serve application: a gateway deployment that calls an engine deployment.

Ray's defaults, except for how many requests a replica takes at once (its default of five would
shrink the batch), and every token crosses the deployment boundary. Started by `arms/`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle

from loadtests.plain import stream_chat
from loadtests.ray_app import main
from serving.app import create_engine
from serving.generation import pace
from serving.settings import EngineSettings, load

_AT_ONCE = 256
_app = FastAPI()


class RelayEngine:
    # Serve awaits an async constructor.
    async def __init__(self, settings: EngineSettings) -> None:  # type: ignore[misc]
        pace.FREE_STREAMS = sys.maxsize  # Engram's rests are no part of the usual application
        self._engine = await create_engine(settings).__aenter__()

    async def __del__(self) -> None:
        await self._engine.__aexit__(None, None, None)

    async def ready(self) -> bool:
        return (await self._engine.health()).healthy

    async def chat(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        async for event in stream_chat(self._engine, body):
            yield event


@serve.ingress(_app)
class RelayGateway:
    def __init__(self, engine: DeploymentHandle[Any]) -> None:
        self._engine = engine

    @_app.post("/v1/chat/completions")
    async def chat(self, request: Request) -> StreamingResponse:
        chat = self._engine.options(stream=True, method_name="chat")
        events = chat.remote(orjson.loads(await request.body()))
        return StreamingResponse(events, media_type="text/event-stream")

    @_app.get("/health")
    async def health(self) -> dict[str, bool]:
        return {"ready": await self._engine.ready.remote()}


def application(settings: EngineSettings) -> serve.Application:
    deployment = serve.deployment(max_ongoing_requests=_AT_ONCE)
    return deployment(RelayGateway).bind(deployment(RelayEngine).bind(settings))


if __name__ == "__main__":
    main(__doc__, lambda: application(load().engine))

"""The gateway replica: the HTTP application with its engine, as one Serve ingress.

HAProxy connects straight to the replica's own HTTP port, so no Ray code runs per token. Serve runs
the application's lifespan: the engine starts with the replica and is stopped before it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serving.app import create_gateway
from serving.deployments.retriever_handle import RetrieverHandle
from serving.errors import EngineFailed
from serving.retrieval.retriever import Retriever
from serving.retrieval.sharded import ShardedRetriever
from serving.settings import Settings
from serving.telemetry import note_process


@serve.ingress()
class GatewayReplica:
    def __init__(
        self,
        settings: Settings,
        shards: Sequence[DeploymentHandle[Any]],
        *_beside: DeploymentHandle[Any],  # named here so that Serve starts them; nobody calls them
    ) -> None:
        self._app = create_gateway(settings, _retriever(settings, shards))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def check_health(self) -> None:
        """Alive, not ready: a replica must not be replaced because the retriever is away."""
        note_process("gateway")
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            response = await client.get("/livez")
        if response.is_error:
            raise EngineFailed(f"/livez answered {response.status_code}: {response.text[:200]}")


def _retriever(settings: Settings, shards: Sequence[DeploymentHandle[Any]]) -> Retriever:
    if len(shards) == 1:
        return RetrieverHandle(shards[0])
    handles = [
        RetrieverHandle(shard, f"retriever of shard {number}")
        for number, shard in enumerate(shards)
    ]
    return ShardedRetriever(handles, settings.retrieval.candidates)

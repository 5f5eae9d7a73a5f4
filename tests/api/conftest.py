"""A gateway in this process, real but for the model: scripted engine, hashing embedder, SQLite."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from openai import OpenAI

from serving.app import create_gateway, create_ingest, create_retriever, open_store
from serving.settings import Settings
from serving.types import Assistant, TenantId, VectorStoreId

SCOPES = ("inference", "admin")


@dataclass(frozen=True)
class Gateway:
    """Where it listens, clients of two tenants, and a vector store of the first."""

    url: str
    client: OpenAI
    http: httpx.Client
    rival: httpx.Client
    store: VectorStoreId

    def close(self) -> None:
        self.client.close()
        self.http.close()
        self.rival.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return scripted(tmp_path_factory.mktemp("data"))


def scripted(data: Path, **sections: object) -> Settings:
    tree = {
        "data": data,
        "engine": {"kind": "scripted"},
        "retrieval": {"embedder": "hashing"},
        "ingest": {"poll_interval_s": 0.02},
        "admission": {"max_body_bytes": 20_000, "max_upload_bytes": 50_000},
    }
    return Settings.model_validate(tree | sections)


@pytest.fixture(scope="module")
def gateway(settings: Settings) -> Iterator[Gateway]:
    with serve(settings) as running:
        yield running


class serve:  # noqa: N801 - reads as a verb: `with serve(settings) as gateway`
    """Runs retriever, ingest worker and gateway in a thread of their own for the block."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with (
            create_retriever(self._settings) as retriever,
            create_ingest(self._settings),
        ):
            app = create_gateway(self._settings, retriever)
            config = uvicorn.Config(
                app,
                port=self._port,
                log_level="warning",
                timeout_keep_alive=120,  # its 5 s are httpx's too: they would race
            )
            self._server = uvicorn.Server(config)
            self._started.set()
            await self._server.serve()

    def __enter__(self) -> Gateway:
        self._gateway = gateway = self._seed()
        self._thread.start()
        self._started.wait(30)
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive(), "the gateway failed to start"
        return gateway

    def __exit__(self, *exc: object) -> None:
        self._gateway.close()
        self._server.should_exit = True
        self._thread.join()

    def _seed(self) -> Gateway:
        store = open_store(self._settings)
        acme, rival = TenantId("acme"), TenantId("rival")
        for tenant in (acme, rival):
            store.keys.ensure_tenant(tenant)
        documents = store.vector_stores.create(acme, "handbook")
        store.assistants.put(
            Assistant("helpdesk", acme, "You help.", vector_stores=(documents.id,))
        )
        keys = [store.keys.create(tenant, "test", SCOPES) for tenant in (acme, rival)]
        store.ledger.close()
        url = f"http://127.0.0.1:{self._port}"
        client = OpenAI(base_url=f"{url}/v1", api_key=keys[0], max_retries=0)
        return Gateway(url, client, _http(url, keys[0]), _http(url, keys[1]), documents.id)


def _http(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120)

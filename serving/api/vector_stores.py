"""`/v1/vector_stores`: the stores themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import CreateStore, UpdateStore, days_of, read_body, weights_of
from serving.api.listing import json_response, listing, window
from serving.api.request import caller_of
from serving.api.waiting import let_be_found, polled
from serving.retrieval.retriever import Retriever
from serving.store.store_files import FileStatus
from serving.store.vector_stores import StoreChanges, VectorStore, VectorStores
from serving.types import VectorStoreId

STORES = "/v1/vector_stores"
STORE = STORES + "/{store_id}"


class VectorStoresApi:
    def __init__(self, stores: VectorStores, retriever: Retriever, max_body_bytes: int) -> None:
        self._stores = stores
        self._retriever = retriever
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(STORES, self.create, methods=["POST"])
        app.add_api_route(STORES, self.list, methods=["GET"])
        app.add_api_route(STORE, self.get, methods=["GET"])
        app.add_api_route(STORE, self.update, methods=["POST"])
        app.add_api_route(STORE, self.delete, methods=["DELETE"])

    async def create(self, request: Request) -> Response:
        body = await read_body(request, self._max_body_bytes, CreateStore)
        store = await run_in_threadpool(
            self._stores.create,
            caller_of(request).tenant,
            body.name or "",
            body.metadata,
            description=body.description or "",
            expires_after_days=days_of(body.expires_after),
            ranking=weights_of(body.engram),
            files=body.files,
        )
        return await self._answer(store)

    async def list(self, request: Request) -> Response:
        tenant = caller_of(request).tenant
        page = await run_in_threadpool(self._stores.list, tenant, window(request))
        counts = Counter[FileStatus]()
        for store in page.items:
            counts.update(store.file_counts)
        await let_be_found(self._retriever, counts)
        return listing(page, store_body)

    async def get(self, request: Request, store_id: VectorStoreId) -> Response:
        tenant = caller_of(request).tenant
        return await self._answer(await run_in_threadpool(self._stores.get, tenant, store_id))

    async def update(self, request: Request, store_id: VectorStoreId) -> Response:
        body = await read_body(request, self._max_body_bytes, UpdateStore)
        tenant, changes = caller_of(request).tenant, changes_of(body)
        store = await run_in_threadpool(lambda: self._stores.update(tenant, store_id, **changes))
        return await self._answer(store)

    async def delete(self, request: Request, store_id: VectorStoreId) -> Response:
        await run_in_threadpool(self._stores.delete, caller_of(request).tenant, store_id)
        return json_response({"id": store_id, "object": "vector_store.deleted", "deleted": True})

    async def _answer(self, store: VectorStore) -> Response:
        await let_be_found(self._retriever, store.file_counts)
        return polled(store_body(store), store.file_counts.get(FileStatus.IN_PROGRESS, 0))


def changes_of(body: UpdateStore) -> StoreChanges:
    """Only what was sent; null clears."""
    given, changes = body.model_fields_set, StoreChanges()
    if "name" in given:
        changes["name"] = body.name or ""
    if "metadata" in given:
        changes["metadata"] = body.metadata or {}
    if "expires_after" in given:
        changes["expires_after_days"] = days_of(body.expires_after)
    if "engram" in given and (body.engram is None or "ranking" in body.engram.model_fields_set):
        changes["ranking"] = weights_of(body.engram)
    return changes


def store_body(store: VectorStore) -> dict[str, Any]:
    days = store.expires_after_days
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": store.name,
        "description": store.description,
        "metadata": dict(store.metadata),
        "status": store.status,
        "usage_bytes": store.usage_bytes,
        "file_counts": counts_body(store.file_counts),
        "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
        "expires_at": store.expires_at,
        "last_active_at": store.last_active_at,
        "engram": {"ranking": dict(store.ranking) or None},
    }


def counts_body(counts: Mapping[FileStatus, int]) -> dict[str, int]:
    by_status = {str(status): counts.get(status, 0) for status in FileStatus}
    return {**by_status, "total": sum(by_status.values())}

"""`/v1/vector_stores/{store_id}/file_batches`: files attached together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import CreateBatch, read_body
from serving.api.listing import status_filter, window
from serving.api.request import caller_of
from serving.api.store_files import list_body
from serving.api.vector_stores import STORE, counts_body
from serving.api.waiting import let_be_found, polled
from serving.retrieval.retriever import Retriever
from serving.store.file_batches import FileBatch, FileBatches
from serving.store.store_files import FileStatus
from serving.types import VectorStoreId

BATCHES = STORE + "/file_batches"
BATCH = BATCHES + "/{batch_id}"


class FileBatchesApi:
    def __init__(self, batches: FileBatches, retriever: Retriever, max_body_bytes: int) -> None:
        self._batches = batches
        self._retriever = retriever
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(BATCHES, self.create, methods=["POST"])
        app.add_api_route(BATCH, self.get, methods=["GET"])
        app.add_api_route(BATCH + "/cancel", self.cancel, methods=["POST"])
        app.add_api_route(BATCH + "/files", self.files, methods=["GET"])

    async def create(self, request: Request, store_id: VectorStoreId) -> Response:
        body = await read_body(request, self._max_body_bytes, CreateBatch)
        tenant = caller_of(request).tenant
        return await self._answer(
            await run_in_threadpool(self._batches.create, tenant, store_id, body.new)
        )

    async def get(self, request: Request, store_id: VectorStoreId, batch_id: str) -> Response:
        tenant = caller_of(request).tenant
        return await self._answer(
            await run_in_threadpool(self._batches.get, tenant, store_id, batch_id)
        )

    async def cancel(self, request: Request, store_id: VectorStoreId, batch_id: str) -> Response:
        tenant = caller_of(request).tenant
        return await self._answer(
            await run_in_threadpool(self._batches.cancel, tenant, store_id, batch_id)
        )

    async def files(self, request: Request, store_id: VectorStoreId, batch_id: str) -> Response:
        page = await run_in_threadpool(
            self._batches.files,
            caller_of(request).tenant,
            store_id,
            batch_id,
            window(request, "filter"),
            status_filter(request),
        )
        return await list_body(self._retriever, page)

    async def _answer(self, batch: FileBatch) -> Response:
        await let_be_found(self._retriever, batch.file_counts)
        return polled(batch_body(batch), batch.file_counts.get(FileStatus.IN_PROGRESS, 0))


def batch_body(batch: FileBatch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.vector_store,
        "status": batch.status,
        "file_counts": counts_body(batch.file_counts),
    }

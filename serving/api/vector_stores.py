"""`/v1/vector_stores`: stores, the files in them, and search."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from serving.admission import Admission
from serving.api.listing import listing, window
from serving.api.request import caller_of, read_json
from serving.errors import InvalidRequest
from serving.retrieval.retriever import Retriever
from serving.store.vector_stores import FileStatus, VectorStore, VectorStoreFile, VectorStores
from serving.types import Passage, Search, VectorStoreId

STORES = "/v1/vector_stores"
STORE = STORES + "/{store_id}"
SEARCH_FIELDS = {"query", "max_num_results", "filters"}


class VectorStoresApi:
    def __init__(
        self,
        stores: VectorStores,
        retriever: Retriever,
        admission: Admission,
        max_body_bytes: int,
    ) -> None:
        self._stores = stores
        self._retriever = retriever
        self._admission = admission
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(STORES, self.create, methods=["POST"])
        app.add_api_route(STORES, self.list, methods=["GET"])
        app.add_api_route(STORE, self.get, methods=["GET"])
        app.add_api_route(STORE, self.delete, methods=["DELETE"])
        app.add_api_route(STORE + "/search", self.search, methods=["POST"])
        app.add_api_route(STORE + "/files", self.attach, methods=["POST"])
        app.add_api_route(STORE + "/files", self.files, methods=["GET"])
        app.add_api_route(STORE + "/files/{file_id}", self.file, methods=["GET"])
        app.add_api_route(STORE + "/files/{file_id}", self.detach, methods=["DELETE"])

    async def create(self, request: Request) -> dict[str, Any]:
        body = await read_json(request, self._max_body_bytes)
        name, metadata = body.get("name") or "", body.get("metadata")
        if not isinstance(name, str):
            raise InvalidRequest("'name' must be a string", param="name")
        if not isinstance(metadata, dict | None):
            raise InvalidRequest("'metadata' must be an object", param="metadata")
        tenant = caller_of(request).tenant
        return store_body(await run_in_threadpool(self._stores.create, tenant, name, metadata))

    async def list(self, request: Request) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        return listing(
            await run_in_threadpool(self._stores.list, tenant, window(request)), store_body
        )

    async def get(self, request: Request, store_id: VectorStoreId) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        return store_body(await run_in_threadpool(self._stores.get, tenant, store_id))

    async def delete(self, request: Request, store_id: VectorStoreId) -> dict[str, Any]:
        await run_in_threadpool(self._stores.delete, caller_of(request).tenant, store_id)
        await self._retriever.refresh()
        return {"id": store_id, "object": "vector_store.deleted", "deleted": True}

    async def attach(self, request: Request, store_id: VectorStoreId) -> dict[str, Any]:
        """Answers at once; an ingest worker brings the file to `completed` or `failed`."""
        body = await read_json(request, self._max_body_bytes)
        file_id, attributes = body.get("file_id"), body.get("attributes")
        if not isinstance(file_id, str):
            raise InvalidRequest("'file_id' must name an uploaded file", param="file_id")
        if not isinstance(attributes, dict | None):
            raise InvalidRequest("'attributes' must be an object", param="attributes")
        tenant = caller_of(request).tenant
        return store_file_body(
            await run_in_threadpool(self._stores.attach, tenant, store_id, file_id, attributes)
        )

    async def files(self, request: Request, store_id: VectorStoreId) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        page = await run_in_threadpool(self._stores.files, tenant, store_id, window(request))
        return listing(page, store_file_body)

    async def file(self, request: Request, store_id: VectorStoreId, file_id: str) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        file = await run_in_threadpool(self._stores.file, tenant, store_id, file_id)
        if file.status is FileStatus.COMPLETED:
            await self._retriever.refresh()  # what is said to be completed can be searched
        return store_file_body(file)

    async def detach(
        self, request: Request, store_id: VectorStoreId, file_id: str
    ) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._stores.remove_file, tenant, store_id, file_id)
        await self._retriever.refresh()
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    async def search(self, request: Request, store_id: VectorStoreId) -> dict[str, Any]:
        body = await read_json(request, self._max_body_bytes)
        if unknown := body.keys() - SEARCH_FIELDS:
            field = min(unknown)
            raise InvalidRequest(f"'{field}' is not supported in a search", param=field)
        query, limit = body.get("query"), body.get("max_num_results")
        limit = 10 if limit is None else limit
        if not isinstance(query, str) or not query.strip():
            raise InvalidRequest("'query' must be a non-empty string", param="query")
        if not isinstance(limit, int) or not 1 <= limit <= 50:
            raise InvalidRequest(
                "'max_num_results' must be between 1 and 50", param="max_num_results"
            )
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._stores.get, tenant, store_id)
        async with self._admission.admit(caller_of(request)):
            found = await self._retriever.search(
                Search(tenant, query, (store_id,), limit, filters=body.get("filters"))
            )
        return {
            "object": "vector_store.search_results.page",
            "search_query": [query],
            "data": [_hit(passage) for passage in found.passages],
            "has_more": False,
            "next_page": None,
        }


def store_body(store: VectorStore) -> dict[str, Any]:
    counts = {str(status): n for status, n in store.file_counts.items()}
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": store.name,
        "metadata": dict(store.metadata),
        "status": store.status,
        "usage_bytes": store.usage_bytes,
        "file_counts": {
            "in_progress": counts.get("in_progress", 0),
            "completed": counts.get("completed", 0),
            "failed": counts.get("failed", 0),
            "cancelled": 0,
            "total": sum(counts.values()),
        },
    }


def store_file_body(file: VectorStoreFile) -> dict[str, Any]:
    error = {"code": "unsupported_file", "message": file.last_error} if file.last_error else None
    return {
        "id": file.id,
        "object": "vector_store.file",
        "created_at": file.created_at,
        "vector_store_id": file.vector_store,
        "status": file.status,
        "last_error": error,
        "usage_bytes": file.bytes,
        "attributes": dict(file.attributes),
        "engram": {"filename": file.filename, "chunks": file.chunks},
    }


def _hit(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": round(passage.score, 4),
        "attributes": dict(passage.attributes),
        "content": [{"type": "text", "text": passage.text}],
        "engram": {
            "heading": passage.label,
            "start": passage.start,
            "end": passage.end,
            "dense_score": round(passage.dense_score, 4),
            "lexical_score": round(passage.lexical_score, 4),
        },
    }

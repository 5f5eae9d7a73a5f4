"""`/v1/vector_stores/{store_id}/files`: the files in a store."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import AttachFile, UpdateFile, read_body
from serving.api.listing import json_response, listing, parts, status_filter, window
from serving.api.request import caller_of
from serving.api.vector_stores import STORE
from serving.api.waiting import let_be_found, polled
from serving.retrieval.retriever import Retriever
from serving.store.pages import Page
from serving.store.store_files import FileStatus, StoreFiles, VectorStoreFile
from serving.types import VectorStoreId

FILES = STORE + "/files"
FILE = FILES + "/{file_id}"


class StoreFilesApi:
    def __init__(self, files: StoreFiles, retriever: Retriever, max_body_bytes: int) -> None:
        self._files = files
        self._retriever = retriever
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(FILES, self.attach, methods=["POST"])
        app.add_api_route(FILES, self.list, methods=["GET"])
        app.add_api_route(FILE, self.get, methods=["GET"])
        app.add_api_route(FILE, self.update, methods=["POST"])
        app.add_api_route(FILE, self.detach, methods=["DELETE"])
        app.add_api_route(FILE + "/content", self.content, methods=["GET"])

    async def attach(self, request: Request, store_id: VectorStoreId) -> Response:
        """Answers at once; an ingest worker brings the file to `completed` or `failed`."""
        new = (await read_body(request, self._max_body_bytes, AttachFile)).new
        file = await run_in_threadpool(
            self._files.attach,
            caller_of(request).tenant,
            store_id,
            new.file_id,
            new.attributes,
            chunking=new.chunking,
        )
        return await self._answer(file)

    async def list(self, request: Request, store_id: VectorStoreId) -> Response:
        page = await run_in_threadpool(
            self._files.files,
            caller_of(request).tenant,
            store_id,
            window(request, "filter"),
            status_filter(request),
        )
        return await list_body(self._retriever, page)

    async def get(self, request: Request, store_id: VectorStoreId, file_id: str) -> Response:
        tenant = caller_of(request).tenant
        return await self._answer(
            await run_in_threadpool(self._files.file, tenant, store_id, file_id)
        )

    async def update(self, request: Request, store_id: VectorStoreId, file_id: str) -> Response:
        body = await read_body(request, self._max_body_bytes, UpdateFile)
        file = await run_in_threadpool(
            self._files.set_attributes,
            caller_of(request).tenant,
            store_id,
            file_id,
            body.attributes or {},
        )
        return await self._answer(file)

    async def detach(self, request: Request, store_id: VectorStoreId, file_id: str) -> Response:
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._files.remove_file, tenant, store_id, file_id)
        return json_response(
            {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}
        )

    async def content(self, request: Request, store_id: VectorStoreId, file_id: str) -> Response:
        """The text that was read from the file, in the pieces that are searched."""
        tenant = caller_of(request).tenant
        file, texts = await run_in_threadpool(self._files.text, tenant, store_id, file_id)
        return parts(
            "vector_store.file_content.page",
            [{"type": "text", "text": text} for text in texts],
            file_id=file.id,
            filename=file.filename,
            attributes=dict(file.attributes),
        )

    async def _answer(self, file: VectorStoreFile) -> Response:
        await let_be_found(self._retriever, {file.status: 1})
        return polled(file_body(file), in_progress=file.status is FileStatus.IN_PROGRESS)


async def list_body(retriever: Retriever, page: Page[VectorStoreFile]) -> Response:
    await let_be_found(retriever, Counter(file.status for file in page.items))
    return listing(page, file_body)


def file_body(file: VectorStoreFile) -> dict[str, Any]:
    """Files without a strategy of their own are cut by Engram's, which is none of OpenAI's."""
    error = {"code": file.error_code or "server_error", "message": file.last_error}
    return {
        "id": file.id,
        "object": "vector_store.file",
        "created_at": file.created_at,
        "vector_store_id": file.vector_store,
        "status": file.status,
        "last_error": error if file.last_error else None,
        "usage_bytes": file.bytes,
        "attributes": dict(file.attributes),
        "chunking_strategy": file.chunking or {"type": "other"},
        "engram": {"filename": file.filename, "chunks": file.chunks},
    }

"""`/v1/files`: documents on their way into vector stores, and whatever else a client keeps."""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.admission import Admission
from serving.api.listing import flag, json_response, listing, window
from serving.api.request import caller_of
from serving.api.uploads import read_upload
from serving.store.files import File, Files
from serving.store.pages import MAX_LIMIT


class FilesApi:
    def __init__(self, files: Files, admission: Admission, max_upload_bytes: int) -> None:
        self._files = files
        self._admission = admission
        self._max_bytes = max_upload_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/v1/files", self.create, methods=["POST"])
        app.add_api_route("/v1/files", self.list, methods=["GET"])
        app.add_api_route("/v1/files/{file_id}", self.get, methods=["GET"])
        app.add_api_route("/v1/files/{file_id}", self.delete, methods=["DELETE"])
        app.add_api_route("/v1/files/{file_id}/content", self.content, methods=["GET"])

    async def create(self, request: Request) -> Response:
        caller = caller_of(request)
        async with self._admission.admit(caller):  # before the bytes are taken into memory
            new = await read_upload(request, self._max_bytes)
            file = await run_in_threadpool(
                self._files.create,
                caller.tenant,
                new.filename,
                new.data,
                new.purpose,
                new.expires_after_s,
            )
        return json_response(file_body(file))

    async def list(self, request: Request) -> Response:
        wanted = window(request, "purpose", default=MAX_LIMIT, most=MAX_LIMIT)
        purpose, tenant = request.query_params.get("purpose"), caller_of(request).tenant
        return listing(
            await run_in_threadpool(self._files.list, tenant, wanted, purpose), file_body
        )

    async def get(self, request: Request, file_id: str) -> Response:
        tenant = caller_of(request).tenant
        return json_response(file_body(await run_in_threadpool(self._files.get, tenant, file_id)))

    async def delete(self, request: Request, file_id: str) -> Response:
        tenant, if_unused = caller_of(request).tenant, flag(request, "if_unused")
        await run_in_threadpool(self._files.delete, tenant, file_id, if_unused=if_unused)
        return json_response({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: Request, file_id: str) -> Response:
        tenant = caller_of(request).tenant
        file = await run_in_threadpool(self._files.get, tenant, file_id)
        data = await run_in_threadpool(self._files.content, tenant, file_id)
        return Response(data, headers=download(file.filename), media_type=kind_of(file.filename))


def kind_of(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def download(filename: str) -> dict[str, str]:
    """Makes a browser save the file, never show it: it is the client's, and might be a page."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return {
        "content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}",
        "x-content-type-options": "nosniff",
    }


def file_body(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }

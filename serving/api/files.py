"""`/v1/files`: documents on their way into vector stores."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import Response
from starlette.types import Message, Receive

from serving.admission import Admission
from serving.api.listing import listing, window
from serving.api.request import caller_of
from serving.errors import BodyTooLarge, InvalidRequest
from serving.retrieval.retriever import Retriever
from serving.store.files import File, Files

FORM_OVERHEAD_BYTES = 64 * 1024
PURPOSES = ("assistants", "user_data")


class FilesApi:
    def __init__(
        self, files: Files, retriever: Retriever, admission: Admission, max_upload_bytes: int
    ) -> None:
        self._files = files
        self._retriever = retriever
        self._admission = admission
        self._max_bytes = max_upload_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/v1/files", self.create, methods=["POST"])
        app.add_api_route("/v1/files", self.list, methods=["GET"])
        app.add_api_route("/v1/files/{file_id}", self.get, methods=["GET"])
        app.add_api_route("/v1/files/{file_id}", self.delete, methods=["DELETE"])
        app.add_api_route("/v1/files/{file_id}/content", self.content, methods=["GET"])

    async def create(self, request: Request) -> dict[str, Any]:
        caller = caller_of(request)
        async with self._admission.admit(caller):  # before the bytes are taken into memory
            filename, data, purpose = await self._upload(request)
            create = self._files.create
            file = await run_in_threadpool(create, caller.tenant, filename, data, purpose)
        return file_body(file)

    async def list(self, request: Request) -> dict[str, Any]:
        purpose = request.query_params.get("purpose")
        tenant = caller_of(request).tenant
        page = await run_in_threadpool(self._files.list, tenant, window(request), purpose)
        return listing(page, file_body)

    async def get(self, request: Request, file_id: str) -> dict[str, Any]:
        return file_body(
            await run_in_threadpool(self._files.get, caller_of(request).tenant, file_id)
        )

    async def delete(self, request: Request, file_id: str) -> dict[str, Any]:
        await run_in_threadpool(self._files.delete, caller_of(request).tenant, file_id)
        await self._retriever.refresh()
        return {"id": file_id, "object": "file", "deleted": True}

    async def content(self, request: Request, file_id: str) -> Response:
        data = await run_in_threadpool(self._files.content, caller_of(request).tenant, file_id)
        return Response(data, media_type="application/octet-stream")

    async def _upload(self, request: Request) -> tuple[str, bytes, str]:
        """Name, bytes and purpose of the one file in the form."""
        try:
            async with Request(request.scope, self._bounded(request.receive)).form(
                max_files=1, max_fields=16
            ) as form:
                upload, purpose = form.get("file"), form.get("purpose", "assistants")
                if not isinstance(upload, UploadFile) or not upload.filename:
                    raise InvalidRequest("'file' must be a file with a name", param="file")
                if purpose not in PURPOSES:
                    raise InvalidRequest(f"'purpose' must be one of {PURPOSES}", param="purpose")
                return upload.filename, await upload.read(), str(purpose)
        except (MultiPartException, HTTPException) as error:
            raise InvalidRequest(f"the upload is no multipart form: {error}") from None

    def _bounded(self, receive: Receive) -> Receive:
        """Refuses an upload as soon as it is known to be over the limit."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes + FORM_OVERHEAD_BYTES:
                raise BodyTooLarge(f"the file is over the limit of {self._max_bytes} bytes")
            return message

        return counted


def file_body(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }

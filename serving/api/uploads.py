"""Reads an uploaded file out of a multipart form, within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

from serving.errors import BodyTooLarge, InvalidRequest

FORM_OVERHEAD_BYTES = 64 * 1024
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MAX_NAME_CHARS = 512
HOUR_S, DAY_S = 3_600, 86_400
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
FIELDS = {"file", "purpose", ANCHOR, SECONDS}


@dataclass(frozen=True, slots=True)
class Upload:
    """`expires_after_s`: seconds from now; None lasts."""

    filename: str
    data: bytes
    purpose: str
    expires_after_s: int | None


async def read_upload(request: Request, limit_bytes: int) -> Upload:
    """The one file of the form and what is said of it.

    Raises:
        BodyTooLarge: it is over the limit; no more of it is read.
        InvalidRequest: it is no such form; names the field that is wrong.
    """
    async with read_form(request, limit_bytes) as form:
        return await _upload(form)


@asynccontextmanager
async def read_form(
    request: Request, limit_bytes: int, max_files: int = 1
) -> AsyncIterator[FormData]:
    """A multipart form, whose files wait on disk for the block.

    Raises:
        BodyTooLarge: it is over the limit; no more of it is read.
        InvalidRequest: it is no such form.
    """
    bounded = Request(request.scope, _bounded(request.receive, limit_bytes))
    try:
        form = await bounded.form(max_files=max_files, max_fields=16)
    except MultiPartException as error:
        raise _no_form(error.message) from None
    except HTTPException as error:
        raise _no_form(error.detail) from None
    except (ValueError, LookupError) as error:  # a charset or text that is none
        raise _no_form(str(error)) from None
    try:
        yield form
    finally:
        await form.close()


def _no_form(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the upload is no multipart form: {reason}")


async def _upload(form: FormData) -> Upload:
    if unknown := form.keys() - FIELDS:
        raise InvalidRequest(f"unknown field '{min(unknown)}'", param=min(unknown))
    upload, purpose = form.get("file"), form.get("purpose")
    if not isinstance(upload, UploadFile) or not upload.filename:
        raise InvalidRequest("'file' must be a file with a name", param="file")
    if len(upload.filename) > MAX_NAME_CHARS or not upload.filename.isprintable():
        raise InvalidRequest(
            f"the name of 'file' must be printable and have at most {MAX_NAME_CHARS} characters",
            param="file",
        )
    if purpose not in PURPOSES:
        raise InvalidRequest(f"'purpose' must be one of {', '.join(PURPOSES)}", param="purpose")
    expires_after_s = _expiry(form) or (30 * DAY_S if purpose == "batch" else None)
    return Upload(upload.filename, await upload.read(), str(purpose), expires_after_s)


def _expiry(form: FormData) -> int | None:
    anchor, seconds = form.get(ANCHOR), form.get(SECONDS)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest(f"'{ANCHOR}' must be 'created_at'", param=ANCHOR)
    plain = isinstance(seconds, str) and seconds.isascii() and seconds.isdigit()
    if not plain or not HOUR_S <= int(str(seconds)[:9]) <= 30 * DAY_S:
        raise InvalidRequest(
            f"'{SECONDS}' must be between {HOUR_S} (an hour) and {30 * DAY_S} (30 days)",
            param=SECONDS,
        )
    return int(str(seconds))


def _bounded(receive: Receive, limit_bytes: int) -> Receive:
    """Refuses an upload as soon as it is known to be over the limit."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit_bytes + FORM_OVERHEAD_BYTES:
            raise BodyTooLarge(f"the file is over the limit of {limit_bytes} bytes", param="file")
        return message

    return counted

"""Reads an uploaded adapter out of a multipart form into a folder, within its limits."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from serving.adapters.acceptance import FILES, Acceptance
from serving.adapters.unpacking import is_archive, is_hidden, unpack
from serving.api.uploads import read_form
from serving.errors import InvalidRequest

FIELDS = {"name", "file", "promote"}
MAX_FILES = 64  # in one form


@dataclass(frozen=True, slots=True)
class AdapterUpload:
    """What came: the adapter's files in `folder`, and what is wanted of them."""

    name: str
    folder: Path
    promote: bool


@asynccontextmanager
async def read_adapter(request: Request, acceptance: Acceptance) -> AsyncIterator[AdapterUpload]:
    """The adapter of the form; its folder is gone after the block.

    Raises:
        BodyTooLarge: it is over the limit, as it was sent or unpacked.
        InvalidRequest: names the field that is wrong.
    """
    with acceptance.room() as folder:
        async with read_form(request, acceptance.max_bytes, MAX_FILES) as form:
            name, promote = _text(form, "name"), _text(form, "promote", "false")
            acceptance.check_name(name)
            if promote not in ("true", "false"):
                raise InvalidRequest("'promote' must be true or false", param="promote")
            files = _files(form)
            await run_in_threadpool(_write, files, folder, acceptance.max_bytes)
        yield AdapterUpload(name, folder, promote == "true")


def _text(form: FormData, field: str, default: str = "") -> str:
    if unknown := form.keys() - FIELDS:
        raise InvalidRequest(f"unknown field '{min(unknown)}'", param=min(unknown))
    values = form.getlist(field)
    if len(values) > 1 or not isinstance(value := [*values, default][0], str):
        raise InvalidRequest(f"'{field}' must be given once, as text", param=field)
    return value


def _files(form: FormData) -> Sequence[UploadFile]:
    files = [file for file in form.getlist("file") if isinstance(file, UploadFile)]
    if not files or len(files) != len(form.getlist("file")):
        raise InvalidRequest(
            "'file' must be a tar archive, or the adapter's files one by one", param="file"
        )
    return [file for file in files if not is_hidden(_base(file))]


def _base(file: UploadFile) -> str:
    return PurePosixPath((file.filename or "").replace("\\", "/")).name


def _write(files: Sequence[UploadFile], folder: Path, max_bytes: int) -> None:
    archives = [file for file in files if is_archive(_base(file))]
    if archives and len(files) > 1:
        raise InvalidRequest("'file' must be one archive, or files and no archive", param="file")
    for archive in archives:
        unpack(archive.file, folder, max_bytes)
        return
    for file in files:
        name = _base(file)
        if name not in FILES and name.startswith("adapter_model."):
            raise InvalidRequest(
                f"'file': {name} can run code when loaded: save the weights as safetensors",
                param="file",
            )
        if name in FILES:
            _copy(file, folder / name)


def _copy(file: UploadFile, target: Path) -> None:
    if target.exists():
        raise InvalidRequest(f"'file': {target.name} was sent twice", param="file")
    with target.open("xb") as copy:
        shutil.copyfileobj(file.file, copy, 2**20)

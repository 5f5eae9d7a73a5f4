"""Bytes under the hash of their content, in a directory or anything else fsspec reaches."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Protocol

import fsspec

_PIECE_BYTES = 2**20
_ABANDONED_S = 3_600.0  # a half-written object of that age has no writer any more


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ObjectStore(Protocol):
    """Whatever `put` returned can be read back until it is deleted."""

    def put(self, data: bytes) -> str:
        """Stores the bytes, durably once it returns, and returns their sha256 in hex."""
        ...

    def get(self, sha256: str) -> bytes:
        """Raises FileNotFoundError when there is no such object."""
        ...

    def put_file(self, path: Path) -> str:
        """`put` of what a file holds, which is never taken into memory whole."""
        ...

    def fetch(self, sha256: str, path: Path) -> None:
        """Writes the object to a file; raises FileNotFoundError when there is none."""
        ...

    def exists(self, sha256: str) -> bool: ...

    def stored(self) -> Sequence[str]:
        """Every complete object; what killed writers left long ago is deleted on the way."""
        ...

    def delete(self, sha256: str) -> None:
        """Deleting what is not there is harmless."""
        ...

    def retain(self, kept: Collection[str]) -> None:
        """Deletes all other objects, and what killed writers left. Only for a store to which
        nobody writes meanwhile."""
        ...


class FolderObjects:
    """An object is complete or absent: written beside its place, then moved there."""

    def __init__(self, root: str | Path) -> None:
        self._files, self._root = fsspec.core.url_to_fs(str(root))

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.exists(sha256):
            self._write(self._path(sha256), io.BytesIO(data))
        return sha256

    def get(self, sha256: str) -> bytes:
        return bytes(self._files.cat_file(self._path(sha256)))

    def put_file(self, path: Path) -> str:
        sha256 = digest_of(path)
        if not self.exists(sha256):
            with path.open("rb") as file:
                self._write(self._path(sha256), file)
        return sha256

    def fetch(self, sha256: str, path: Path) -> None:
        with self._files.open(self._path(sha256), "rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE_BYTES)

    def exists(self, sha256: str) -> bool:
        return bool(self._files.exists(self._path(sha256)))

    def stored(self) -> Sequence[str]:
        found = [(path, path.rsplit("/", 1)[1]) for path in self._files.find(self._root)]
        for path, name in found:
            if "." in name and self._age_s(path) > _ABANDONED_S:
                self._files.rm_file(path)
        return [name for _, name in found if "." not in name]

    def delete(self, sha256: str) -> None:
        if self.exists(sha256):
            self._files.rm_file(self._path(sha256))

    def retain(self, kept: Collection[str]) -> None:
        for path in self._files.find(self._root):
            if path.rsplit("/", 1)[1] not in kept:
                self._files.rm_file(path)

    def _age_s(self, path: str) -> float:
        return time.time() - float(self._files.modified(path).timestamp())

    def _write(self, path: str, data: IO[bytes]) -> None:
        folder = path.rsplit("/", 1)[0]
        self._files.makedirs(folder, exist_ok=True)
        if "file" not in self._protocols():  # object storage writes a whole object or nothing
            with self._files.open(path, "wb") as target:
                shutil.copyfileobj(data, target, _PIECE_BYTES)
            return
        beside = Path(f"{path}.{uuid.uuid4().hex}")
        with beside.open("wb") as file:
            shutil.copyfileobj(data, file, _PIECE_BYTES)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(folder)

    def _protocols(self) -> tuple[str, ...]:
        protocol = self._files.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

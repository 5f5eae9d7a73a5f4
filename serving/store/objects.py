"""Bytes under the hash of their content, in a directory or anything else fsspec reaches."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import fsspec


class ObjectStore(Protocol):
    """Whatever `put` returned can be read back until it is deleted."""

    def put(self, data: bytes) -> str:
        """Stores the bytes, durably once it returns, and returns their sha256 in hex."""
        ...

    def get(self, sha256: str) -> bytes:
        """Raises FileNotFoundError when there is no such object."""
        ...

    def exists(self, sha256: str) -> bool: ...

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
            self._write(self._path(sha256), data)
        return sha256

    def get(self, sha256: str) -> bytes:
        return bytes(self._files.cat_file(self._path(sha256)))

    def exists(self, sha256: str) -> bool:
        return bool(self._files.exists(self._path(sha256)))

    def delete(self, sha256: str) -> None:
        if self.exists(sha256):
            self._files.rm_file(self._path(sha256))

    def retain(self, kept: Collection[str]) -> None:
        for path in self._files.find(self._root):
            if path.rsplit("/", 1)[1] not in kept:
                self._files.rm_file(path)

    def _write(self, path: str, data: bytes) -> None:
        folder = path.rsplit("/", 1)[0]
        self._files.makedirs(folder, exist_ok=True)
        if "file" not in self._protocols():  # object storage writes a whole object or nothing
            self._files.pipe_file(path, data)
            return
        beside = Path(f"{path}.{uuid.uuid4().hex}")
        with beside.open("wb") as file:
            file.write(data)
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

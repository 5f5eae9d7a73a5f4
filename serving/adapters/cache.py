"""Adapters on local disk, where engines load them from: copies of objects, bounded in bytes.

Several processes may share the folder. A folder in it is complete or absent, since it is moved to
its place; its name is unique to a version and its content, as vLLM keys its prefix cache by name
and path. The one that was used least recently leaves first, but none that an engine may just be
asked to load: `get` marks it as used, and it then stays for `grace_s`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving.errors import AdapterNotReady
from serving.store.objects import ObjectStore, digest_of
from serving.types import AdapterVersion, StoredFile

logger = logging.getLogger("engram.adapters")

_LOCKS = 64  # files; an entry's lock is one of them
_ABANDONED_S = 3_600.0
_PARTIAL = ".partial-"


class DiskCache:
    """`max_bytes` may be exceeded by what was used in the last `grace_s`, which is logged."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        objects: ObjectStore,
        grace_s: float = 120.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._objects = objects
        self._grace_s = grace_s
        self._clock = clock
        self._verified: set[str] = set()  # by this process

    def path(self, entry: str) -> Path:
        return self._folder / entry

    def get(self, entry: str, files: Mapping[str, StoredFile]) -> Path:
        """The folder with these files, each of the content it should have.

        However many ask, in however many processes, one copies.

        Raises:
            AdapterNotReady: an object is gone or is not what it should be.
        """
        path = self.path(entry)
        with self._locked(entry):
            if not self._is_sound(entry, files):
                self._remove(path)
                self._make_room(sum(file.bytes for file in files.values()))
                self._copy(path, files)
                self._verified.add(entry)
            os.utime(path, (self._clock(), self._clock()))
        return path

    def forget(self, entry: str) -> None:
        """Deletes what no new request will ask for; a process that still reads it may go on."""
        with self._locked(entry):
            self._remove(self.path(entry))

    def sweep(self) -> None:
        """Deletes what killed processes left half-written."""
        for path in self._folder.glob(".*-*"):
            if self._clock() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)

    def _is_sound(self, entry: str, files: Mapping[str, StoredFile]) -> bool:
        """Hashes the files when this process first meets them; a disk can rot or be tampered
        with."""
        path = self.path(entry)
        if not path.is_dir():
            return False
        if entry not in self._verified:
            if any(_sha256(path / name) != file.sha256 for name, file in files.items()):
                logger.warning("the cached copy of adapter %s is damaged: made anew", entry)
                return False
            self._verified.add(entry)
        return True

    def _copy(self, path: Path, files: Mapping[str, StoredFile]) -> None:
        partial = self._folder / f"{_PARTIAL}{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            for name, file in files.items():
                self._fetch(file, partial / name)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _fetch(self, file: StoredFile, target: Path) -> None:
        try:
            self._objects.fetch(file.sha256, target)
        except FileNotFoundError:
            raise AdapterNotReady(f"{target.name} of the adapter is not in the store") from None
        if _sha256(target) != file.sha256:
            raise AdapterNotReady(f"{target.name} of the adapter is damaged in the store")

    def _make_room(self, needed: int) -> None:
        """Evicts until `needed` more bytes fit, or nothing more may go."""
        entries = sorted(self._entries())  # least recently used first
        total = needed + sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total > self._max_bytes and self._evict(path):
                total -= size
        if total > self._max_bytes:
            logger.warning("the adapters in use take more disk than the cache's limit")

    def _evict(self, path: Path) -> bool:
        """Unless it was used just now, or somebody is about to."""
        with self._locked(path.name, wait=False) as locked:
            try:
                idle_s = self._clock() - path.stat().st_mtime
            except FileNotFoundError:
                return True
            if not locked or idle_s < self._grace_s:
                return False
            self._remove(path)
            return True

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if not path.name.startswith("."):
                try:
                    size = sum(file.stat().st_size for file in path.iterdir())
                    yield path.stat().st_mtime, size, path
                except FileNotFoundError:  # another process evicted it
                    continue

    def _remove(self, path: Path) -> None:
        """First out of sight, so that nobody finds half of it."""
        aside = self._folder / f".evicted-{uuid.uuid4().hex}"
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def _locked(self, entry: str, *, wait: bool = True) -> Iterator[bool]:
        """Keeps every other thread and process from this entry; says whether it could."""
        locks = self._folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / str(zlib.crc32(entry.encode()) % _LOCKS)).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def entry_of(version: AdapterVersion) -> str:
    """The name of its folder: the same for ever, and of no other weights."""
    content = [version.tenant, version.id, *((n, f.sha256) for n, f in version.manifest.items())]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return f"{version.id}-{digest[:16]}"


def _sha256(path: Path) -> str | None:
    try:
        return digest_of(path)
    except FileNotFoundError:
        return None

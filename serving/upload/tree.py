"""A folder tree as the files that can be read, named by their place below a root."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from serving.ingest.file_types import SUFFIXES
from serving.remote import ServerError

_SKIPPED = frozenset({"node_modules", "__pycache__"})  # and all that begins with a dot


@dataclass(frozen=True, slots=True)
class Local:
    """A file on this side; `path` is its identity."""

    path: str
    file: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Tree:
    """What to sync: `path` (a folder or one file), named by its place below `root`."""

    path: Path
    root: Path
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    _hashes: dict[Path, tuple[tuple[int, int], str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: Path,
        root: Path | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Tree:
        path = path.resolve()
        base = root.resolve() if root else (path if path.is_dir() else path.parent)
        if not path.is_relative_to(base):
            raise ServerError(f"{path} is not below the root {base}")
        return cls(path, base, include, exclude)

    def files(self) -> list[Local]:
        found = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        named = ((file, file.relative_to(self.root).as_posix()) for file in found)
        return [
            Local(name, file, self._hash(file))
            for file, name in named
            if self.covers(name) and file.is_file()
        ]

    def covers(self, name: str) -> bool:
        """Whether a path below the root is of this tree and of a type that can be read."""
        parts = name.split("/")
        hidden = any(part.startswith(".") or part in _SKIPPED for part in parts)
        if hidden or not (self.root / name).is_relative_to(self.path):
            return False
        if _matches(name, self.exclude):
            return False
        if self.include:
            return _matches(name, self.include)
        return Path(name).suffix.lower() in SUFFIXES

    def _hash(self, file: Path) -> str:
        """Read again only when size or time of change differ."""
        state = file.stat()
        mark = (state.st_mtime_ns, state.st_size)
        known = self._hashes.get(file)
        if known is None or known[0] != mark:
            with file.open("rb") as data:
                known = mark, hashlib.file_digest(data, "sha256").hexdigest()
            self._hashes[file] = known
        return known[1]


def _matches(name: str, globs: Sequence[str]) -> bool:
    base = name.rpartition("/")[2]
    return any(fnmatch(name, glob) or fnmatch(base, glob) for glob in globs)

"""Makes a vector store of a running server hold what a folder holds, over its public API.

A file is known by its path below a root, which is kept with it as the attribute `path` beside the
`sha256` of its content: unchanged files are not sent again, and a changed one takes the place of
its earlier version once it is searchable. Files without that attribute are left alone.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from serving.ingest.file_types import SUFFIXES

_AT_ONCE = 8
_PAGE = 100
_POLL_S = 0.5
_ANSWER_S = 120.0
_TRIES = 6  # for a server that is full
_SKIPPED = frozenset({"node_modules", "__pycache__"})  # and all that begins with a dot


class UploadError(RuntimeError):
    """The server refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Local:
    """A file on this side; `path` is its identity."""

    path: str
    file: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the store; `status` as in the API."""

    file_id: str
    path: str
    sha256: str
    status: str
    chunks: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What must happen; `wait` are files that are there and need only to be read (again)."""

    add: tuple[Local, ...] = ()
    change: tuple[Local, ...] = ()
    wait: tuple[Stored, ...] = ()
    delete: tuple[Stored, ...] = ()
    unchanged: int = 0

    @property
    def work(self) -> int:
        return len(self.add) + len(self.change) + len(self.wait) + len(self.delete)

    def __str__(self) -> str:
        return (
            f"{len(self.add)} to add, {len(self.change)} changed, {len(self.wait)} to read again, "
            f"{len(self.delete)} to delete, {self.unchanged} unchanged"
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """How one file fared: `error` is None when it is searchable, or gone if `deleted`."""

    path: str
    chunks: int = 0
    error: str | None = None
    deleted: bool = False


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
            raise UploadError(f"{path} is not below the root {base}")
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


def plan(local: Sequence[Local], stored: Sequence[Stored], *, prune: bool) -> Plan:
    """Pure: what makes the store hold `local`; without `prune` nothing is deleted."""
    by_path: dict[str, list[Stored]] = defaultdict(list)
    for known in stored:
        by_path[known.path].append(known)
    add: list[Local] = []
    change: list[Local] = []
    wait, unchanged = [], 0
    for file in local:
        versions = by_path.pop(file.path, [])
        same = [version for version in versions if version.sha256 == file.sha256]
        if any(version.status == "completed" for version in same):
            unchanged += 1
        elif same:
            wait.append(same[-1])
        else:
            (change if versions else add).append(file)
    gone = [version for versions in by_path.values() for version in versions] if prune else []
    return Plan(tuple(add), tuple(change), tuple(wait), tuple(gone), unchanged)


class Uploader:
    """One connection pool to one server."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_ANSWER_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def store(self, name: str) -> str:
        """The id of the vector store called `name`, created if there is none.

        Raises:
            UploadError: the server refused.
        """
        for store in self._pages("vector_stores"):
            if store["name"] == name:
                return str(store["id"])
        return str(self._json("POST", "vector_stores", json={"name": name})["id"])

    def plan(self, tree: Tree, store_id: str, *, prune: bool = False) -> Plan:
        stored = [known for known in self._stored(store_id) if tree.covers(known.path)]
        return plan(tree.files(), stored, prune=prune)

    def carry_out(self, plan: Plan, store_id: str, report: Callable[[Sent], None]) -> list[Sent]:
        """`report` is called from this thread as each file ends."""
        sent: list[Sent] = []

        def ended(result: Sent) -> None:
            sent.append(result)
            report(result)

        awaited: set[str] = set()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            uploads = pool.map(lambda file: self._send(file, store_id), (*plan.add, *plan.change))
            again = pool.map(lambda known: self._attach_again(known, store_id), plan.wait)
            for result in (*uploads, *again):
                if isinstance(result, Sent):
                    ended(result)
                else:
                    awaited.add(result)
            for known in plan.delete:
                self._delete(known.file_id)
                ended(Sent(known.path, deleted=True))
        self._wait(awaited, store_id, ended)
        return sent

    def _send(self, file: Local, store_id: str) -> Sent | str:
        """The id of the uploaded file, which is now being read; or why there is none."""
        try:
            with file.file.open("rb") as data:
                upload = {"file": (file.path.rpartition("/")[2], data)}
                form = {"purpose": "assistants"}
                uploaded = self._json("POST", "files", files=upload, data=form)
            attributes = {"path": file.path, "sha256": file.sha256}
            return self._attach(str(uploaded["id"]), attributes, store_id)
        except (UploadError, OSError) as error:
            return Sent(file.path, error=str(error))

    def _attach_again(self, known: Stored, store_id: str) -> Sent | str:
        try:
            attributes = {"path": known.path, "sha256": known.sha256}
            return self._attach(known.file_id, attributes, store_id)
        except UploadError as error:
            return Sent(known.path, error=str(error))

    def _attach(self, file_id: str, attributes: dict[str, str], store_id: str) -> str:
        body = {"file_id": file_id, "attributes": attributes}
        self._json("POST", f"vector_stores/{store_id}/files", json=body)
        return file_id

    def _wait(self, awaited: set[str], store_id: str, ended: Callable[[Sent], None]) -> None:
        """Until every file is searchable or has failed; then earlier versions go."""
        while awaited:
            stored = {known.file_id: known for known in self._stored(store_id)}
            for file_id in [one for one in awaited if one not in stored]:
                awaited.discard(file_id)  # deleted by somebody else
            for known in [stored[one] for one in awaited]:
                if known.status == "in_progress":
                    continue
                awaited.discard(known.file_id)
                if known.status == "completed":
                    self._delete_others(known, stored.values())
                failed = known.error or known.status
                error = None if known.status == "completed" else failed
                ended(Sent(known.path, known.chunks, error))
            if awaited:
                time.sleep(_POLL_S)

    def _delete_others(self, newest: Stored, stored: Any) -> None:
        for other in stored:
            if other.path == newest.path and other.file_id != newest.file_id:
                self._delete(other.file_id)

    def _delete(self, file_id: str) -> None:
        try:
            self._json("DELETE", f"files/{file_id}")
        except UploadError as error:
            if "No such file" not in str(error):
                raise

    def _stored(self, store_id: str) -> Iterator[Stored]:
        """The files that an ingest put there."""
        for file in self._pages(f"vector_stores/{store_id}/files"):
            attributes = file.get("attributes") or {}
            if "path" in attributes:
                yield Stored(
                    file["id"],
                    str(attributes["path"]),
                    str(attributes.get("sha256", "")),
                    file["status"],
                    int((file.get("engram") or {}).get("chunks", 0)),
                    (file.get("last_error") or {}).get("message"),
                )

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        query: dict[str, str | int] = {"limit": _PAGE, "order": "asc"}
        while True:
            page = self._json("GET", path, params=query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        for attempt in range(_TRIES):
            try:
                response = self._http.request(method, path, **request)
            except httpx.HTTPError as error:
                raise UploadError(f"{self._http.base_url} does not answer: {error}") from error
            if response.status_code not in (429, 503) or attempt == _TRIES - 1:
                break
            time.sleep(float(response.headers.get("retry-after", 1)))
            for _, stream in (request.get("files") or {}).values():
                stream.seek(0)
        if response.is_error:
            raise UploadError(_refusal(response))
        body: dict[str, Any] = response.json()
        return body


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"

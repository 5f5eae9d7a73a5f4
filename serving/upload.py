"""Puts a folder of documents into a vector store through the HTTP API, as any client would.

Each file is known by its path below the folder and its content hash, kept as attributes: a second
run sends only what is new or has changed, and takes the earlier version of a changed file out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

SUFFIXES = frozenset({".md", ".txt", ".html", ".pdf"})
_AT_ONCE = 4  # enough to keep the embedder's batches full
_PAGE = 100
_POLL_S = 0.2
_ANSWER_S = 120.0


class UploadError(RuntimeError):
    """The server refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How one file fared: `error` is None when it is searchable; `skipped` when it already was."""

    path: str
    chunks: int = 0
    error: str | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class _Stored:
    file_id: str
    sha256: str


def documents(path: Path) -> list[Path]:
    """The files below `path`, or `path` itself, that can be ingested."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in found if file.suffix.lower() in SUFFIXES and file.is_file()]


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

    def send(self, path: Path, store_id: str, report: Callable[[Sent], None]) -> list[Sent]:
        """Sends what `path` holds; `report` is called from this thread as each file ends."""
        root = path if path.is_dir() else path.parent
        known = self._known(store_id)
        sent = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for result in pool.map(
                lambda file: self._send_one(file, root, store_id, known), documents(path)
            ):
                report(result)
                sent.append(result)
        return sent

    def _send_one(self, file: Path, root: Path, store_id: str, known: dict[str, _Stored]) -> Sent:
        path = file.relative_to(root).as_posix()
        data = file.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        earlier = known.get(path)
        if earlier and earlier.sha256 == sha256:
            return Sent(path, skipped=True)
        try:
            return self._ingest(path, data, sha256, store_id, earlier)
        except UploadError as error:
            return Sent(path, error=str(error))

    def _ingest(
        self, path: str, data: bytes, sha256: str, store_id: str, earlier: _Stored | None
    ) -> Sent:
        name = path.rpartition("/")[2]
        uploaded = self._json(
            "POST", "files", files={"file": (name, data)}, data={"purpose": "assistants"}
        )
        files = f"vector_stores/{store_id}/files"
        attributes = {"path": path, "sha256": sha256}
        attach = {"file_id": uploaded["id"], "attributes": attributes}
        ingested = self._json("POST", files, json=attach)
        while ingested["status"] == "in_progress":
            time.sleep(_POLL_S)
            ingested = self._json("GET", f"{files}/{uploaded['id']}")
        if ingested["status"] != "completed":
            reason = (ingested.get("last_error") or {}).get("message", ingested["status"])
            return Sent(path, error=str(reason))
        if earlier:
            self._json("DELETE", f"{files}/{earlier.file_id}")
        return Sent(path, chunks=int(ingested.get("engram", {}).get("chunks", 0)))

    def _known(self, store_id: str) -> dict[str, _Stored]:
        """The files of earlier runs that are searchable, by path."""
        return {
            file["attributes"]["path"]: _Stored(file["id"], file["attributes"].get("sha256", ""))
            for file in self._pages(f"vector_stores/{store_id}/files")
            if file["status"] == "completed" and "path" in file["attributes"]
        }

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        query: dict[str, str | int] = {"limit": _PAGE, "order": "asc"}
        while True:
            page = self._json("GET", path, params=query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise UploadError(f"{self._http.base_url} does not answer: {error}") from error
        if response.is_error:
            raise UploadError(_refusal(response))
        body: dict[str, Any] = response.json()
        return body


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"

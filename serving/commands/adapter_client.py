"""A running server's adapters over `/admin/adapters`, for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from serving.upload.server import UploadError

_ANSWER_S = 600.0  # a large adapter is checked before it is answered
_PAGE = 100


class AdapterClient:
    """One connection pool to one server; raises UploadError with the server's own words."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
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

    def add(self, path: Path, name: str, promote: bool) -> dict[str, Any]:
        """Sends a folder's files, or an archive."""
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        plain = [file for file in files if file.is_file() and not file.name.startswith(".")]
        if not plain:
            raise UploadError(f"there are no files in {path}")
        fields = {"name": name, "promote": "true" if promote else "false"}
        with ExitStack() as stack:
            form = [("file", (f.name, stack.enter_context(f.open("rb")))) for f in plain]
            return self._call("POST", "", data=fields, files=form)

    def list(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        query: dict[str, Any] = {"limit": _PAGE, **({"name": name} if name else {})}
        while True:
            page = self._call("GET", "", params=query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def show(self, adapter: str) -> dict[str, Any]:
        return self._call("GET", _path(adapter))

    def move(self, adapter: str, move: str) -> dict[str, Any]:
        """`promote`, `rollback`, `retire` or `pin`."""
        return self._call("POST", f"{_path(adapter)}/{move}")

    def unpin(self, adapter: str) -> dict[str, Any]:
        return self._call("DELETE", f"{_path(adapter)}/pin")

    def delete(self, adapter: str) -> dict[str, Any]:
        return self._call("DELETE", _path(adapter))

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, "/admin/adapters" + path, **request)
        except httpx.HTTPError as error:
            raise UploadError(f"{self._http.base_url}: {error}") from None
        if answer.is_error:
            raise UploadError(_words(answer))
        body: dict[str, Any] = answer.json()
        return body


def _path(adapter: str) -> str:
    return "/" + quote(adapter, safe=":@")


def _words(answer: httpx.Response) -> str:
    try:
        error: Mapping[str, Any] = answer.json()["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"

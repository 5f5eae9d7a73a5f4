"""A running server as a client of its public API sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

_PAGE = 100
_ANSWER_S = 120.0
_TRIES = 6  # for a server that is full
_MEMORY = "engram_ingest_peak_memory_bytes "


class UploadError(RuntimeError):
    """The server refused; the message is its own, and `status` that of the answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """One connection pool; safe in any thread. Entering and leaving frame its life."""

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

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        query: dict[str, str | int] = {"limit": _PAGE, "order": "asc"}
        while True:
            page = self.json("GET", path, params=query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
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
            raise UploadError(_refusal(response), response.status_code)
        body: dict[str, Any] = response.json()
        return body

    def ingest_memory(self) -> int | None:
        """The most bytes that an ingest worker of the server's node has held since its start; None
        if there is none on that node."""
        try:
            response = self._http.get(self._http.base_url.join("/metrics"))
        except httpx.HTTPError:
            return None
        lines = response.text.splitlines() if response.is_success else []
        values = [line.removeprefix(_MEMORY) for line in lines if line.startswith(_MEMORY)]
        return int(float(values[0])) or None if values else None


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"

"""A running server as the command line reaches it: over its public API, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

PAGE = 100
TRIES = 6  # for a server that is full


class ServerError(RuntimeError):
    """The server refused or does not answer; the message is for the user, and `status` that of
    the answer, if there was one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class RemoteServer:
    """One connection pool; safe in any thread. Entering and leaving frame its life."""

    answer_s = 120.0

    def __init__(self, base_url: str, api_key: str) -> None:
        """`base_url` with or without `/v1`."""
        self._http = httpx.Client(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=self.answer_s,
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

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON answer; one that is full is asked again when it says.

        Raises:
            ServerError: in the server's own words.
        """
        for attempt in range(TRIES):
            answer = self._once(method, path, **request)
            if answer.status_code not in (429, 503) or attempt == TRIES - 1:
                break
            time.sleep(float(answer.headers.get("retry-after", 1)))
            _rewind(request.get("files") or {})
        if answer.is_error:
            raise ServerError(_words(answer), answer.status_code)
        body: dict[str, Any] = answer.json()
        return body

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every object of a list."""
        after: dict[str, str] = {}
        while True:
            page = self.call("GET", path, params={"limit": PAGE, **query, **after})
            yield from page["data"]
            if not page.get("has_more"):
                return
            after = {"after": page["data"][-1]["id"]}

    def _once(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ServerError(f"{self._http.base_url} does not answer: {error}") from error


def _rewind(files: Mapping[str, Any] | list[tuple[str, Any]]) -> None:
    """Streams that were sent are sent again from their beginning."""
    parts = files.values() if isinstance(files, Mapping) else [part for _, part in files]
    for _, stream in parts:
        stream.seek(0)


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"

"""The retriever as the gateway sees it in a cluster: one Ray call per method, nothing else.

A call whose replica dies is sent once more within the same time limit, and then waits for the
replica that Serve starts instead. Errors of the retriever itself arrive as they were raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serving.errors import RetrievalFailed, RetrieverUnavailable, ServingError
from serving.types import Found, Search

_SEARCH_S = 15.0
_EMBED_S = 60.0
_READY_S = 2.0


class RetrieverHandle:
    """Implements `retrieval.Retriever` over a Serve handle; errors call it by `name`."""

    def __init__(self, handle: DeploymentHandle[Any], name: str = "retriever") -> None:
        self._handle = handle
        self._name = name

    async def search(self, search: Search) -> Found:
        found: Found = await self._call(_SEARCH_S, "search", search)
        return found

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = await self._call(_EMBED_S, "embed", list(texts))
        return vectors

    async def refresh(self) -> int:
        """Every replica follows SQL; the oldest of their `seq` is what all of them have."""
        try:
            async with asyncio.timeout(_SEARCH_S):
                seqs: list[int] = await self._handle.broadcast("refresh").results_async()
                return min(seqs)
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._as_serving_error(error, "refresh") from error

    async def ready(self) -> bool:
        try:
            return bool(await self._call(_READY_S, "ready"))
        except ServingError:
            return False

    async def _call(self, limit_s: float, method: str, *args: object) -> Any:
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._handle.options(method_name=method).remote(*args)
                except RayActorError:
                    return await self._handle.options(method_name=method).remote(*args)
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._as_serving_error(error, method) from error

    def _as_serving_error(self, error: Exception, method: str) -> ServingError:
        if isinstance(error, RayTaskError) and isinstance(error.cause, ServingError):
            return error.cause
        if isinstance(error, RayTaskError):
            kind = type(error.cause).__name__
            return RetrievalFailed(f"The {self._name} failed to `{method}` ({kind}).")
        kind = type(error).__name__
        return RetrieverUnavailable(
            f"The {self._name} does not answer `{method}` ({kind}). Try again: where a replica "
            "was lost, another is starting."
        )

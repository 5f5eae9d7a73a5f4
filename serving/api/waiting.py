"""Answers to clients that wait for files to be ingested."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from serving.api.listing import json_response
from serving.errors import ServingError
from serving.retrieval.retriever import Retriever
from serving.store.store_files import FileStatus

log = logging.getLogger("engram.api")
POLL_MS, MAX_POLL_MS = 250, 2_000


def polled(body: Mapping[str, Any], in_progress: int) -> Response:
    """Tells the SDK's poll helpers when to come back: the later, the more there is to do."""
    if not in_progress:
        return json_response(body)
    wait_ms = min(MAX_POLL_MS, POLL_MS * in_progress)
    return json_response(body, {"openai-poll-after-ms": str(wait_ms)})


async def let_be_found(retriever: Retriever, counts: Mapping[FileStatus, int]) -> None:
    """Before files are said to be completed: the retriever takes up what SQL has of them.

    A retriever that does not answer finds nothing either, and is up to date when it does again.
    """
    if not counts.get(FileStatus.COMPLETED):
        return
    try:
        await retriever.refresh()
    except ServingError as error:
        log.warning("the retriever could not be refreshed: %s", error.message)

"""The ingest replica: an `IngestWorker` that lives as long as its Ray actor. Nobody calls it."""

from __future__ import annotations

import os

from serving.app import create_ingest
from serving.errors import BackendError
from serving.settings import Settings

NICENESS = 10  # answering never waits for parsing


class IngestReplica:
    # Serve awaits an async constructor, and an async `__del__` before it ends the actor.
    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        os.nice(NICENESS)
        self._worker = create_ingest(settings)
        await self._worker.__aenter__()

    async def __del__(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def check_health(self) -> None:
        if not self._worker.alive():
            raise BackendError("The ingest worker has ended.")

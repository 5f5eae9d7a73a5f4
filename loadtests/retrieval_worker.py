"""Runs the real ingest worker, as nice as its replica, in a process of its own until stdin closes.

Arguments: the database's URL, the object folder, the embedder's name.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from serving.deployments.ingest import NICENESS
from serving.ingest.worker import IngestWorker
from serving.retrieval.embedder import Embedder, HashingEmbedder
from serving.settings import IngestSettings, RetrievalSettings
from serving.store.database import Database
from serving.store.objects import FolderObjects


async def work(url: str, objects: Path, name: str) -> None:
    kind, _, dim = name.partition("-")
    embedder: Embedder | None = HashingEmbedder(int(dim)) if kind == "hashing" else None
    parts = IngestSettings(), RetrievalSettings(), Database(url), FolderObjects(objects), embedder
    os.nice(NICENESS)
    async with IngestWorker(*parts):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))

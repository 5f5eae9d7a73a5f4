"""Ends what has expired: files and responses are deleted, vector stores emptied and marked, what
killed ingest workers had written goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.store.database import Database
from serving.store.drafts import sweep_drafts
from serving.store.files import Files
from serving.store.objects import ObjectStore
from serving.store.responses import Responses
from serving.store.vector_stores import VectorStores


def sweep(db: Database, objects: ObjectStore, clock: Callable[[], float] = time.time) -> int:
    """Returns how many of them it ended. For every tenant; safe to run in many places.

    What has expired is refused before it is swept, and no search finds a store's chunks any more;
    those of a file are found in its stores until then.
    """
    sweep_drafts(db, clock())
    files = Files(db, objects, clock).delete_expired()
    responses = Responses(db, clock).delete_expired()
    return files + responses + VectorStores(db, clock).empty_expired()

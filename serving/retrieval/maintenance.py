"""The slow work of a replica, one thing after the other, beside searches and following."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from serving import telemetry
from serving.retrieval.following import Follower
from serving.retrieval.library import Library
from serving.retrieval.owner_thread import OwnerThread
from serving.retrieval.settled import Settled
from serving.retrieval.shelf import Shelf
from serving.retrieval.snapshot import Snapshotter
from serving.store.database import Database
from serving.store.purging import EVERY_S, purge
from serving.store.scope import DAY_S

log = logging.getLogger(__name__)


class Maintenance:
    """Without a snapshotter nothing is snapshotted. Safe in any thread; one run at a time."""

    def __init__(
        self,
        db: Database,
        owner: OwnerThread[Any, Any],
        follower: Follower,
        snapshotter: Snapshotter | None,
        purge_after_days: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._owner = owner
        self._follower = follower
        self._snapshotter = snapshotter
        self._purge_after_s = purge_after_days * DAY_S
        self._clock = clock
        self._running = threading.Lock()
        self._purge_at = 0.0
        self._epoch = 0
        self._left = False
        self._settled = Settled()

    def run(self) -> None:
        """Does what is due."""
        with self._running:
            if not self._left:
                self._run()

    def _run(self) -> None:
        has_loaded = self._follower.load_incoming()
        self._settled.follow(self._follower.library.seq, at_once=has_loaded)
        self._drop_foreign()
        self._rebuild()
        if self._snapshotter is not None:
            self._snapshotter.take_if_due(at_once=has_loaded)
        if self._clock() >= self._purge_at:
            self._purge_at = self._clock() + EVERY_S
            purge(self._db, self._purge_after_s, self._clock())
        self._report()

    def leave(self) -> None:
        """Waits for what is under way, then keeps what changed since the last snapshot."""
        with self._running:
            self._left = True
            if self._snapshotter is not None:
                self._snapshotter.take_if_due(at_once=True)

    def _drop_foreign(self) -> None:
        """Of stores that were split, once every shard has a snapshot of after that: then each has
        its part, and the whole is no longer needed here."""
        library = self._follower.library
        if not library.outgrown or self._snapshotter is None:
            return
        reached = self._snapshotter.reached(library.shard.of)
        for store, seq in tuple(library.outgrown.items()):
            if seq <= reached:
                self._follower.drop_foreign(store)

    def _rebuild(self) -> None:
        """Trains fresh indexes where it is time. Searches use the old one until the swap, which
        takes over what changed meanwhile."""
        library = self._follower.library
        for shelf in _stale(library):
            rebuild = self._owner.call(shelf.index.rebuild)
            began = time.monotonic()
            rebuild.run()
            while self._owner.call(rebuild.catch_up):
                pass  # searches are answered in between
            self._owner.call(rebuild.swap)
            self._epoch += 1
            seconds = round(time.monotonic() - began, 3)
            log.info("rebuilt an index", extra={"chunks": len(shelf.passages), "seconds": seconds})

    def _report(self) -> None:
        library = self._follower.library
        shard = str(library.shard)
        telemetry.INDEX_SEQ.labels(shard).set(library.seq)
        telemetry.INDEX_CHUNKS.labels(shard).set(len(library))
        telemetry.INDEX_EPOCH.labels(shard).set(self._epoch)


def _stale(library: Library) -> list[Shelf]:
    """Off the owner thread: with many stores, searches would wait for it."""
    return [shelf for shelf in list(library.shelves.values()) if shelf.index.stale()]

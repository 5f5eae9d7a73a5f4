"""A library from the newest snapshot that holds what it says, and when to take the next one.

The vectors are put into fresh indexes and the words into a fresh tantivy index. Its files would be
there in 5 ms where rebuilding it takes 4 to 8 s for 100,000 chunks of 90 words; but they exist
only for an index on disk, and would have to agree with the rest. So far the time is paid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from serving import telemetry
from serving.retrieval.following import Follower
from serving.retrieval.library import Library
from serving.retrieval.shard import Shard
from serving.store.chunks import chunks_of, split_stores, states
from serving.store.database import Database
from serving.store.snapshots import Manifest, Snapshot, Snapshots, UnusableSnapshot

log = logging.getLogger(__name__)


class Snapshotter:
    """`every`: changes of SQL between two snapshots."""

    def __init__(
        self, db: Database, snapshots: Snapshots, follower: Follower, embedder: str, every: int
    ) -> None:
        self._db = db
        self._snapshots = snapshots
        self._follower = follower
        self._embedder = embedder
        self._every = every
        self._taken = 0  # the number of the newest one

    def restore(self, new_library: Callable[[], Library]) -> Library:
        """What the newest usable snapshot holds, or nothing; SQL is followed from there."""
        for snapshot in self._snapshots.newest_first():
            try:
                library = self._loaded(snapshot, new_library())
            except UnusableSnapshot as reason:
                log.warning("snapshot at %d is not used: %s", snapshot.seq, reason)
                telemetry.SNAPSHOT.labels(reason.defect).inc()
            else:
                telemetry.SNAPSHOT.labels("loaded").inc()
                log.info("loaded a snapshot", extra={"chunks": len(library)})
                self._taken = snapshot.seq
                return library
        return new_library()

    def _loaded(self, snapshot: Snapshot, library: Library) -> Library:
        manifest = self._snapshots.open(snapshot, self._embedder)
        library.put_states(*states(self._db))
        late = split_stores(self._db) ^ set(manifest.split)  # other chunks belong here by now
        for rows in self._snapshots.chunks(manifest):
            self._follower.add(library, [row for row in rows if row.store not in late])
        for store in late:
            for rows in chunks_of(self._db, store):
                self._follower.add(library, rows)
        library.settle(manifest.seq)
        return library

    def reached(self, shards: int) -> int:
        """Every one of the shards has a snapshot at this number or later."""
        seqs = self._snapshots.newest_seqs()
        return min(seqs.get(str(Shard(number, shards)), 0) for number in range(shards))

    def take_if_due(self, *, at_once: bool) -> Manifest | None:
        """Takes a snapshot when enough has changed, or if anything has and it shall be `at_once`.

        Not while a part of a store is still on its way here: a snapshot says that its shard has
        everything up to its number, and the other shards drop what it has.
        """
        library = self._follower.library
        changed = library.seq - self._taken
        if not self._every or library.incoming or changed < (1 if at_once else self._every):
            return None
        try:
            manifest = self._snapshots.take(library.seq, self._embedder, library.shard.holds)
        except Exception:
            telemetry.SNAPSHOT.labels("failed").inc()
            raise
        newest = self._snapshots.newest_first()
        self._taken = newest[0].seq if newest else self._taken
        if manifest is not None:
            telemetry.SNAPSHOT.labels("taken").inc()
            log.info("took a snapshot", extra={"chunks": sum(p.rows for p in manifest.parts)})
        return manifest

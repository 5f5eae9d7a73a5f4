"""Snapshots of one shard's chunks, as objects: read faster than SQL, and never the truth.

A snapshot is a manifest and its parts. A part holds the chunks of a span of the sequence; since a
chunk never changes, a part is used again by later snapshots until many of its chunks are deleted.
So a snapshot costs what changed, and it is made from SQL: no search waits for it, and nothing that
went wrong in a replica's memory gets into it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, select

from serving.store.chunks import StoredChunk, chunks_between, deleted_since, split_stores
from serving.store.database import Database
from serving.store.lease import Lease
from serving.store.models import SnapshotRow
from serving.store.objects import ObjectStore
from serving.store.sequence import PURGED, newest
from serving.store.snapshot_part import PartError, decode, encode
from serving.types import VectorStoreId

log = logging.getLogger(__name__)
FORMAT = 1
KEPT = 2
PART_ROWS = 10_000  # 15 MB of vectors of 384 numbers, and their texts: held in memory once
DELETED_SHARE = 0.1  # a part with more is written anew
LEASE_S = 60.0  # renewed while writing; so long a killed writer keeps the others waiting

Holds = Callable[[VectorStoreId, bool, str], bool]  # as `Shard.holds`
Defect = Literal["embedder", "newer", "outdated", "missing", "broken", "format"]


@dataclass(frozen=True, slots=True)
class Part:
    """The chunks with `after` < seq ≤ `upto`; of its `rows` those in `dead` are deleted."""

    sha256: str
    bytes: int
    after: int
    upto: int
    rows: int
    dead: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """`split`: the stores that were spread over all shards then."""

    format: int
    shard: str
    seq: int
    embedder: str
    split: tuple[VectorStoreId, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A row of the table: what there should be."""

    id: str
    shard: str
    seq: int
    embedder: str
    manifest: str


class UnusableSnapshot(Exception):
    """It does not hold what it says, or not what is wanted; `defect` is for the metric."""

    def __init__(self, defect: Defect, message: str) -> None:
        super().__init__(message)
        self.defect = defect


_MANIFEST = TypeAdapter(Manifest)


class Snapshots:
    """Those of one shard, in an object store that it has for itself."""

    def __init__(
        self,
        db: Database,
        objects: ObjectStore,
        shard: str,
        *,
        part_rows: int = PART_ROWS,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._objects = objects
        self._shard = shard
        self._part_rows = part_rows
        self._lease = Lease(db, f"snapshot {shard}", lease_s)
        self._clock = clock

    def newest_first(self) -> list[Snapshot]:
        query = select(SnapshotRow).where(SnapshotRow.shard == self._shard)
        with self._db.snapshot() as session:
            rows = session.scalars(query.order_by(SnapshotRow.seq.desc(), SnapshotRow.id))
            return [Snapshot(r.id, r.shard, r.seq, r.embedder, r.manifest) for r in rows]

    def newest_seqs(self) -> dict[str, int]:
        """Of every shard that has one."""
        query = select(SnapshotRow.shard, func.max(SnapshotRow.seq)).group_by(SnapshotRow.shard)
        with self._db.snapshot() as session:
            return {str(shard): int(seq) for shard, seq in session.execute(query)}

    def open(self, snapshot: Snapshot, embedder: str) -> Manifest:
        """The manifest, of which only the parts are still to be checked.

        Raises:
            UnusableSnapshot: start from an older one, or from SQL alone.
        """
        if snapshot.embedder != embedder:
            raise UnusableSnapshot("embedder", f"it was embedded with {snapshot.embedder}")
        manifest = self._manifest(snapshot)
        with self._db.snapshot() as session:
            now, purged = newest(session), newest(session, PURGED)
        if manifest.seq > now:
            raise UnusableSnapshot("newer", f"it is at {manifest.seq}, SQL at {now}: restored")
        if manifest.seq < purged:
            raise UnusableSnapshot("outdated", f"deletions up to {purged} are forgotten")
        return manifest

    def _manifest(self, snapshot: Snapshot) -> Manifest:
        data = self._object(snapshot.manifest)
        try:
            manifest = _MANIFEST.validate_json(data)
        except ValidationError as error:
            raise UnusableSnapshot("format", "its manifest has another form") from error
        if manifest.format != FORMAT:
            raise UnusableSnapshot("format", f"it has format {manifest.format}, not {FORMAT}")
        if (manifest.shard, manifest.seq) != (snapshot.shard, snapshot.seq):
            raise UnusableSnapshot("broken", "its manifest is of another snapshot")
        return manifest

    def chunks(self, manifest: Manifest) -> Iterator[Sequence[StoredChunk]]:
        """Part by part, what was not deleted then.

        Raises:
            UnusableSnapshot: a part is missing or broken; what came before it counts for nothing.
        """
        for part in manifest.parts:
            data = self._object(part.sha256)
            try:
                rows = decode(data)
            except PartError as error:
                raise UnusableSnapshot("format", str(error)) from error
            if len(rows) != part.rows:
                raise UnusableSnapshot("broken", "a part has another number of chunks")
            dead = set(part.dead)
            yield [row for row in rows if row.seq not in dead]

    def _object(self, sha256: str) -> bytes:
        try:
            data = self._objects.get(sha256)
        except OSError as error:
            raise UnusableSnapshot("missing", f"object {sha256[:12]} cannot be read") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            self._objects.delete(sha256)  # or the next snapshot would trust that it is there
            raise UnusableSnapshot("broken", f"object {sha256[:12]} is not what was written")
        return data

    def take(self, upto: int, embedder: str, holds: Holds) -> Manifest | None:
        """Writes what SQL has up to `upto`: objects first, then the manifest, the row last. None
        if another process of this shard is at it, or has a snapshot that is as new.

        Memory: one part. May be killed anywhere; what it leaves goes with the next snapshot.

        Raises:
            LeaseLost: it was held up for so long that another process writes now.
        """
        if not self._lease.take(self._clock()):
            return None
        try:
            if any(snapshot.seq >= upto for snapshot in self.newest_first()):
                return None
            return self._take(upto, embedder, holds)
        finally:
            self._lease.end()

    def _take(self, upto: int, embedder: str, holds: Holds) -> Manifest:
        split = split_stores(self._db)
        parts: list[Part] = []
        at = 0
        for part in self._reusable(embedder, split):
            parts += self._write(at, part.after, split, holds)
            parts.append(part)
            at = part.upto
        parts += self._write(at, upto, split, holds)
        spread = tuple(sorted(split))
        manifest = Manifest(FORMAT, self._shard, upto, embedder, spread, tuple(parts))
        self._lease.renew(self._clock())
        self._publish(manifest)
        self._prune()
        return manifest

    def _reusable(self, embedder: str, split: frozenset[VectorStoreId]) -> list[Part]:
        """The parts of the newest snapshot that are full and mostly alive."""
        for snapshot in self.newest_first():
            try:
                manifest = self.open(snapshot, embedder)
            except UnusableSnapshot:
                continue
            if split.symmetric_difference(manifest.split):
                return []  # other chunks belong here now
            deleted = sorted(deleted_since(self._db, manifest.seq))
            parts = [_with_dead(part, deleted) for part in manifest.parts]
            return [part for part in parts if self._is_reusable(part)]
        return []

    def _is_reusable(self, part: Part) -> bool:
        is_full = part.rows >= self._part_rows // 2
        is_alive = len(part.dead) <= DELETED_SHARE * part.rows
        return is_full and is_alive and self._objects.exists(part.sha256)

    def _write(
        self, after: int, last: int, split: frozenset[VectorStoreId], holds: Holds
    ) -> Iterator[Part]:
        """New parts for the span, each of at most `part_rows` chunks of this shard."""
        rows: list[StoredChunk] = []
        for page in chunks_between(self._db, after, last):
            self._lease.renew(self._clock())
            rows += [r for r in page if holds(r.store, r.store in split, r.file_id)]
            while len(rows) >= self._part_rows:
                full, rows = rows[: self._part_rows], rows[self._part_rows :]
                yield self._put(full, after, full[-1].seq)
                after = full[-1].seq
        if rows:
            yield self._put(rows, after, last)

    def _put(self, rows: Sequence[StoredChunk], after: int, upto: int) -> Part:
        data = encode(rows)
        return Part(self._objects.put(data), len(data), after, upto, len(rows))

    def _publish(self, manifest: Manifest) -> None:
        data = _MANIFEST.dump_json(manifest)
        row = SnapshotRow(
            id=f"snap_{secrets.token_hex(12)}",
            shard=manifest.shard,
            seq=manifest.seq,
            embedder=manifest.embedder,
            manifest=self._objects.put(data),
            bytes=len(data) + sum(part.bytes for part in manifest.parts),
            created_at=int(self._clock()),
        )
        with self._db.session() as session:
            session.add(row)

    def _prune(self) -> None:
        """Keeps the newest two and their objects. Nobody else writes here while the lease holds;
        whoever is loading an older one finds it broken, and takes a newer."""
        snapshots = self.newest_first()
        with self._db.session() as session:
            gone = [snapshot.id for snapshot in snapshots[KEPT:]]
            session.execute(delete(SnapshotRow).where(SnapshotRow.id.in_(gone)))
        kept: set[str] = set()
        for snapshot in snapshots[:KEPT]:
            kept.add(snapshot.manifest)
            try:
                kept |= {part.sha256 for part in self._manifest(snapshot).parts}
            except UnusableSnapshot as error:
                log.warning("an older snapshot cannot be used: %s", error)
        self._objects.retain(kept)


def _with_dead(part: Part, deleted: Sequence[int]) -> Part:
    """With the deletions of its span, of which some may be of another shard's chunks."""
    first, last = bisect_right(deleted, part.after), bisect_right(deleted, part.upto)
    return replace(part, dead=(*part.dead, *deleted[first:last]))

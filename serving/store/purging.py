"""Removes the rows of chunks that were deleted long ago; until then they tell followers to forget.

SQL keeps no time of a deletion, only its number. So each run leaves a mark, which says what number
SQL had reached at what time.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select

from serving.store.database import Database
from serving.store.lease import Lease
from serving.store.models import ChunkRow, SequenceRow
from serving.store.sequence import PURGED, newest

EVERY_S = 3600.0
MARK = "mark "  # and the Unix time
BATCH_ROWS = 5_000  # in one transaction, since other writers wait for it


def purge(db: Database, keep_s: float, now: float) -> int:
    """Removes what was deleted more than `keep_s` ago; returns how many rows that were. Runs once
    an hour at most, whoever asks."""
    if not Lease(db, "purge", EVERY_S).take(now):
        return 0
    upto = _last_deletion(db, _move_marks(db, now - keep_s, now))
    if upto == 0:
        return 0
    with db.session() as session:  # first: from here on nobody follows from before
        session.merge(SequenceRow(name=PURGED, value=upto))
    removed = 0
    while gone := _remove(db, upto):
        removed += gone
    return removed


def _move_marks(db: Database, before: float, now: float) -> int:
    """Leaves a mark for now; returns the number that SQL had reached at `before`, or 0."""
    with db.session() as session:
        rows = session.scalars(select(SequenceRow).where(SequenceRow.name.startswith(MARK))).all()
        old = [row for row in rows if float(row.name.removeprefix(MARK)) <= before]
        session.merge(SequenceRow(name=f"{MARK}{int(now)}", value=newest(session)))
        for row in old:
            session.delete(row)
        return max((row.value for row in old), default=0)


def _last_deletion(db: Database, upto: int) -> int:
    with db.snapshot() as session:
        query = select(func.max(ChunkRow.deleted_seq)).where(ChunkRow.deleted_seq <= upto)
        return session.scalar(query) or 0


def _remove(db: Database, upto: int) -> int:
    some = select(ChunkRow.seq).where(ChunkRow.deleted_seq <= upto).limit(BATCH_ROWS)
    with db.session() as session:
        gone = session.execute(
            delete(ChunkRow).where(ChunkRow.seq.in_(some)).returning(ChunkRow.seq)
        )
        return len(gone.all())

"""The one sequence that followers read along.

A number is taken by updating one row, whose lock is held until commit. So transactions commit in
the order of their numbers, and a follower that has seen `n` can never miss a smaller one. (A
PostgreSQL sequence does not promise that.) Take numbers late and keep the transaction short.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from serving.store.database import Database, Probe
from serving.store.models import SequenceRow

CHANGES = "changes"
DELETIONS = "deletions"
PURGED = "purged"  # up to here, what was deleted may have left no row; see `purging.py`


def advance(session: Session, count: int = 1) -> int:
    """Takes `count` numbers and returns the last one; other writers wait until commit."""
    statement = (
        update(SequenceRow)
        .where(SequenceRow.name == CHANGES)
        .values(value=SequenceRow.value + count)
        .returning(SequenceRow.value)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one()


def note_deletion(session: Session, seq: int) -> None:
    """Leaves the number of a deletion where searches look for the newest one."""
    session.execute(
        update(SequenceRow)
        .where(SequenceRow.name == DELETIONS)
        .values(value=seq)
        .execution_options(synchronize_session=False)
    )


def newest(session: Session, name: str = CHANGES) -> int:
    """The last number whose change is visible; of `DELETIONS`, the last that deleted a chunk."""
    value = session.scalar(select(SequenceRow.value).where(SequenceRow.name == name))
    return 0 if value is None else value


def probe_changes(db: Database) -> Probe:
    """`newest(session)`, for a follower that mostly learns that nothing has changed."""
    return db.probe(f"SELECT value FROM sequence WHERE name = '{CHANGES}'")


def probe_deletions(db: Database) -> Probe:
    """`newest(session, DELETIONS)`, cheap enough to ask before every batch of searches."""
    return db.probe(f"SELECT value FROM sequence WHERE name = '{DELETIONS}'")

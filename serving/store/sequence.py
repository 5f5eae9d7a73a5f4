"""The one sequence that followers read along.

A number is taken by updating one row, whose lock is held until commit. So transactions commit in
the order of their numbers, and a follower that has seen `n` can never miss a smaller one. (A
PostgreSQL sequence does not promise that.) Take numbers late and keep the transaction short.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from serving.store.models import SequenceRow

CHANGES = "changes"
DELETIONS = "deletions"


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


def advance_deletions(session: Session) -> int:
    """Takes a number for a deletion, and leaves it where searches look for the newest one."""
    seq = advance(session)
    session.execute(
        update(SequenceRow)
        .where(SequenceRow.name == DELETIONS)
        .values(value=seq)
        .execution_options(synchronize_session=False)
    )
    return seq


def newest(session: Session, name: str = CHANGES) -> int:
    """The last number whose change is visible; of `DELETIONS`, the last that deleted a chunk."""
    return session.execute(select(SequenceRow.value).where(SequenceRow.name == name)).scalar_one()

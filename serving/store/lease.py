"""Work that one process at a time may do, whichever takes the lease; a dead one's runs out."""

from __future__ import annotations

import math

from serving.store.database import Database, hold
from serving.store.models import SequenceRow


def take_lease(db: Database, name: str, now: float, seconds: float) -> bool:
    """Whether the caller alone may do what `name` stands for, until `now + seconds`.

    Kept beside the sequence, as one more number with a name: when the lease ends, in Unix seconds.
    Clocks of machines need to agree only as well as the lease is long.
    """
    with db.session() as session:
        hold(session, name)
        row = session.get(SequenceRow, name)
        if row is None:
            row = SequenceRow(name=name, value=0)
            session.add(row)
        if row.value > now:
            return False
        row.value = math.ceil(now + seconds)
        return True


def end_lease(db: Database, name: str) -> None:
    """Gives back, before its time, a lease that the caller has."""
    with db.session() as session:
        hold(session, name)
        row = session.get(SequenceRow, name)
        if row is not None:
            row.value = 0

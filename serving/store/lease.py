"""Work that one process at a time may do, whichever takes the lease; a dead one's runs out."""

from __future__ import annotations

import math

from sqlalchemy.orm import Session

from serving.store.database import Database, hold
from serving.store.models import SequenceRow


class LeaseLost(Exception):
    """It ran out before it was renewed, and another process may have it."""


class Lease:
    """Kept beside the sequence, as one more number with a name: when the lease ends, in Unix
    seconds. The number is also how a holder knows its own. Clocks of machines need to agree only
    as well as the lease is long."""

    def __init__(self, db: Database, name: str, seconds: float) -> None:
        self._db = db
        self._name = name
        self._seconds = seconds
        self._until = 0

    def take(self, now: float) -> bool:
        """Whether the caller alone may do what the name stands for, until `now + seconds`."""
        with self._db.session() as session:
            row = self._row(session)
            if row.value > now:
                return False
            row.value = self._until = math.ceil(now + self._seconds)
            return True

    def renew(self, now: float) -> None:
        """For whoever is still at it; writes only when half of the time is over.

        Raises:
            LeaseLost: stop, and leave alone what the lease protects.
        """
        if now < self._until - self._seconds / 2:
            return
        with self._db.session() as session:
            row = self._row(session)
            if row.value != self._until:
                raise LeaseLost(f"another process has taken '{self._name}'")
            row.value = self._until = math.ceil(now + self._seconds)

    def end(self) -> None:
        """Gives it back before its time, unless it is another's by now."""
        with self._db.session() as session:
            row = self._row(session)
            if row.value == self._until:
                row.value = 0

    def _row(self, session: Session) -> SequenceRow:
        hold(session, self._name)
        row = session.get(SequenceRow, self._name)
        if row is None:
            row = SequenceRow(name=self._name, value=0)
            session.add(row)
        return row

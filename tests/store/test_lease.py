"""One holder at a time, among threads as among processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.store.database import Database
from serving.store.lease import Lease, LeaseLost


def lease(db: Database, name: str = "snapshot 0/2") -> Lease:
    return Lease(db, name, seconds=60)


def test_a_lease_has_one_holder_until_it_runs_out(db: Database) -> None:
    assert lease(db).take(1000.0)
    assert not lease(db).take(1059.0)
    assert lease(db, "snapshot 1/2").take(1059.0)
    assert lease(db).take(1060.0)


def test_of_many_at_once_one_gets_it(db: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: lease(db, "once").take(1000.0), range(8)))
    assert sum(got) == 1


def test_whoever_works_on_keeps_it(db: Database) -> None:
    holder = lease(db)
    assert holder.take(1000.0)
    for now in range(1020, 1200, 20):
        holder.renew(float(now))
        assert not lease(db).take(now + 39.0)
    holder.end()
    assert lease(db).take(1200.0)


def test_one_that_ran_out_is_neither_renewed_nor_ended_for_another(db: Database) -> None:
    slow, next_one = lease(db), lease(db)
    assert slow.take(1000.0) and next_one.take(1060.0)
    with pytest.raises(LeaseLost):
        slow.renew(1061.0)
    slow.end()
    assert not lease(db).take(1062.0)

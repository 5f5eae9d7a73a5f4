"""One holder at a time, among threads as among processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from serving.store.database import Database
from serving.store.lease import take_lease


def test_a_lease_has_one_holder_until_it_runs_out(db: Database) -> None:
    assert take_lease(db, "snapshot 0/2", now=1000.0, seconds=60)
    assert not take_lease(db, "snapshot 0/2", now=1059.0, seconds=60)
    assert take_lease(db, "snapshot 1/2", now=1059.0, seconds=60)
    assert take_lease(db, "snapshot 0/2", now=1060.0, seconds=60)


def test_of_many_at_once_one_gets_it(db: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: take_lease(db, "once", 1000.0, 60), range(8)))
    assert sum(got) == 1

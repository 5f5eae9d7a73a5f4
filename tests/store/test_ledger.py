"""The ledger: everything recorded is there after a flush, and recording never waits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy.exc import OperationalError

from serving.errors import NotFound
from serving.store.database import Database
from serving.store.ledger import Ledger, RequestRecord, UsageTotals
from tests.store.conftest import ACME, OTHER

RECORD = RequestRecord(
    id="req_1",
    tenant=ACME,
    model="helpdesk:rag",
    key_id="key_1",
    assistant="helpdesk",
    mode="rag",
    adapter="helpdesk@3",
    stores=("vs_1",),
    reason="top passage 0.81 ≥ 0.45",
    evidence={"best_score": 0.81, "requested": None},
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=4,
    timings_ms={"total": 12.5},
    created_at=1_700_000_000.25,
)


def test_a_record_comes_back_equal(db: Database) -> None:
    with Ledger(db) as ledger:
        ledger.record(RECORD)
        ledger.flush()
        assert ledger.get(ACME, "req_1") == RECORD


def test_closing_writes_what_waits(db: Database) -> None:
    with Ledger(db) as ledger:
        for n in range(600):
            ledger.record(replace(RECORD, id=f"req_{n}", created_at=float(n)))
    assert ledger.usage(ACME) == UsageTotals(600, 6000, 3000, 2400)
    assert ledger.usage(ACME, since=599) == UsageTotals(1, 10, 5, 4)
    assert [record.id for record in ledger.recent(ACME, 2)] == ["req_599", "req_598"]


def test_another_tenant_sees_nothing(db: Database) -> None:
    with Ledger(db) as ledger:
        ledger.record(RECORD)
    assert ledger.recent(OTHER) == ()
    assert ledger.usage(OTHER) == UsageTotals()
    with pytest.raises(NotFound):
        ledger.get(OTHER, "req_1")


def test_one_bad_record_does_not_cost_the_others(db: Database) -> None:
    with Ledger(db) as ledger:
        for record in (RECORD, RECORD, replace(RECORD, id="req_2")):
            ledger.record(record)
    assert {record.id for record in ledger.recent(ACME)} == {"req_1", "req_2"}
    assert ledger.dropped == 1


def test_records_of_a_moment_share_a_transaction(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(db) as ledger:
        insert = Mock(wraps=ledger._insert)
        monkeypatch.setattr(ledger, "_insert", insert)
        for n in range(50):
            ledger.record(replace(RECORD, id=f"req_{n}"))
        ledger.flush()
        assert ledger.usage(ACME).requests == 50
        assert insert.call_count <= 2  # the moment may have begun before the last


def test_a_reader_sees_what_was_just_recorded(db: Database) -> None:
    with Ledger(db) as ledger:
        ledger.record(RECORD)
        assert ledger.get(ACME, "req_1") == RECORD
        ledger.record(replace(RECORD, id="req_2"))
        assert len(ledger.recent(ACME)) == 2
        ledger.record(replace(RECORD, id="req_3"))
        assert ledger.usage(ACME).requests == 3


def test_a_flush_ends_though_more_is_recorded_all_the_time(db: Database) -> None:
    over = threading.Event()

    def go_on() -> None:
        for n in count():
            if over.wait(0.001):
                return
            ledger.record(replace(RECORD, id=f"later_{n}"))

    with Ledger(db) as ledger, ThreadPoolExecutor() as pool:
        ledger.record(RECORD)
        pool.submit(go_on)
        try:
            assert ledger.get(ACME, "req_1") == RECORD
        finally:
            over.set()


def test_while_sql_is_away_records_wait_and_readers_do_not(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True

    def insert(rows: Sequence[dict[str, Any]]) -> None:
        if is_away:
            raise OperationalError("INSERT", {}, Exception("gone"))
        written(rows)

    monkeypatch.setattr("serving.store.ledger.RETRY_S", 0.01)
    with Ledger(db) as ledger:
        written = ledger._insert
        monkeypatch.setattr(ledger, "_insert", insert)
        ledger.record(RECORD)
        ledger.flush(within_s=0.2)
        is_away = False
        ledger.flush(within_s=60)
        assert ledger.get(ACME, "req_1") == RECORD
        assert ledger.dropped == 0


def test_closing_ends_though_sql_is_away(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(db)
    away = Mock(side_effect=OperationalError("INSERT", {}, Exception("gone")))
    monkeypatch.setattr(ledger, "_insert", away)
    ledger.record(RECORD)
    ledger.close()
    assert ledger.dropped == 1


def test_a_full_queue_drops_and_counts(db: Database) -> None:
    ledger = Ledger(db, capacity=2)
    with db.session() as session:  # holds the writer up
        session.connection().exec_driver_sql("DELETE FROM requests")
        session.connection().exec_driver_sql(LOCK[session.connection().dialect.name])
        for n in range(20):
            ledger.record(replace(RECORD, id=f"req_{n}"))
    ledger.close()
    assert ledger.dropped >= 20 - 1 - 2 - 1
    assert len(ledger.recent(ACME)) == 20 - ledger.dropped


LOCK = {"sqlite": "SELECT 1", "postgresql": "LOCK TABLE requests IN EXCLUSIVE MODE"}

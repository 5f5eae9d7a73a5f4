"""The ledger: everything recorded is there after a flush, and recording never waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

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

from __future__ import annotations

from dataclasses import replace

from serving.store.database import Database
from serving.store.ledger import Ledger
from serving.store.models import FeedbackRow
from serving.store.outcomes import Outcomes
from tests.store.conftest import ACME, OTHER
from tests.store.test_ledger import RECORD


def test_outcomes_are_counted_by_version(db: Database) -> None:
    base = replace(RECORD, assistant="desk", evidence={})
    with Ledger(db) as ledger:
        for n in range(8):
            ledger.record(replace(base, id=f"ok{n}", timings_ms={"ttft": float(n)}))
        ledger.record(replace(base, id="bad", status="error", adapter="helpdesk@4"))
        missing = replace(base, id="gone", status="refused", error_code="adapter_not_ready")
        ledger.record(replace(missing, adapter="helpdesk@4"))
        ledger.record(replace(base, id="instead", evidence={"wanted": "helpdesk@4"}))
        ledger.record(replace(base, id="old", created_at=5.0))
        ledger.record(replace(base, id="other", assistant="billing"))
    with db.session() as session:
        for n, rating in enumerate((1, 1, -1)):
            session.add(_feedback(f"r{n}", rating))
    v3, v4 = Outcomes(db).of(ACME, "desk", since=1_000.0)
    assert (v3.adapter, v3.requests, v3.errors, v3.fallbacks) == ("helpdesk@3", 9, 0, 0)
    assert (v3.ttft_p50_ms, v3.ttft_p99_ms) == (4.0, 7.0)
    assert (v3.prompt_tokens, v3.completion_tokens) == (90, 45)
    assert (v3.thumbs_up, v3.thumbs_down) == (2, 1)
    assert (v4.adapter, v4.requests, v4.errors, v4.fallbacks) == ("helpdesk@4", 2, 2, 1)
    assert (v4.ttft_p50_ms, v4.share) == (None, round(2 / 11, 4))
    assert Outcomes(db).of(OTHER, "desk", since=0) == ()


def _feedback(response: str, rating: int) -> FeedbackRow:
    return FeedbackRow(
        tenant=ACME,
        response=response,
        rating=rating,
        assistant="desk",
        adapter="helpdesk@3",
        created_at=2_000_000_000,
    )

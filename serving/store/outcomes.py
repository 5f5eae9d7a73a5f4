"""What came of an assistant's answers, by adapter version: read from the ledger, not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, func, select

from serving.store.database import Database
from serving.store.models import FeedbackRow, RequestRow
from serving.types import TenantId

MAX_REQUESTS = 20_000  # the newest; more would hold the reader up
UNAVAILABLE = ("adapter_not_ready", "model_not_found")  # the version was chosen and not there


@dataclass(frozen=True, slots=True)
class Outcome:
    """One version's, or with `adapter=None` those of answers without an adapter.

    `fallbacks`: requests that wanted this version and were answered by another.
    """

    adapter: str | None
    requests: int
    share: float
    errors: int
    fallbacks: int
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    thumbs_up: int
    thumbs_down: int


class Outcomes:
    def __init__(self, db: Database, settle: Callable[[], None] = lambda: None) -> None:
        """`settle` writes what the ledger of this process still holds."""
        self._db, self._settle = db, settle

    def of(self, tenant: TenantId, assistant: str, since: float) -> tuple[Outcome, ...]:
        """By version, the busiest first; of the newest `MAX_REQUESTS` since a Unix time."""
        self._settle()
        mine = (RequestRow.tenant == tenant, RequestRow.created_at >= since)
        answered = (
            select(
                RequestRow.adapter,
                RequestRow.status,
                RequestRow.error_code,
                RequestRow.prompt_tokens,
                RequestRow.completion_tokens,
                RequestRow.timings_ms,
                RequestRow.evidence,
            )
            .where(*mine, RequestRow.assistant == assistant)
            .order_by(RequestRow.created_at.desc())
            .limit(MAX_REQUESTS)
        )
        rated = (
            select(FeedbackRow.adapter, FeedbackRow.rating, func.count())
            .where(
                FeedbackRow.tenant == tenant,
                FeedbackRow.created_at >= int(since),
                FeedbackRow.assistant == assistant,
            )
            .group_by(FeedbackRow.adapter, FeedbackRow.rating)
        )
        with self._db.snapshot() as session:
            rows = session.execute(answered).all()
            ratings = {
                (adapter, rating): count for adapter, rating, count in session.execute(rated)
            }
        versions = _versions(rows)
        found = [_outcome(v, rows, ratings) for v in versions]
        return tuple(sorted(found, key=lambda one: (-one.requests, one.adapter or "")))


def _versions(rows: Iterable[Row[tuple[object, ...]]]) -> set[str | None]:
    """Those that answered, and those that were wanted."""
    rows = list(rows)
    wanted = {row.evidence.get("wanted") for row in rows} - {None}
    return {row.adapter for row in rows} | wanted


def _outcome(
    version: str | None,
    rows: Sequence[Row[tuple[object, ...]]],
    ratings: dict[tuple[str | None, int], int],
) -> Outcome:
    own = [row for row in rows if row.adapter == version]
    ttfts = sorted(row.timings_ms["ttft"] for row in own if "ttft" in row.timings_ms)
    return Outcome(
        adapter=version,
        requests=len(own),
        share=round(len(own) / len(rows), 4),
        errors=sum(row.status == "error" or row.error_code in UNAVAILABLE for row in own),
        fallbacks=sum(
            version is not None and row.evidence.get("wanted") == version for row in rows
        ),
        ttft_p50_ms=_quantile(ttfts, 0.50),
        ttft_p99_ms=_quantile(ttfts, 0.99),
        prompt_tokens=sum(row.prompt_tokens for row in own),
        completion_tokens=sum(row.completion_tokens for row in own),
        thumbs_up=ratings.get((version, 1), 0),
        thumbs_down=ratings.get((version, -1), 0),
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

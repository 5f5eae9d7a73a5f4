"""What was answered, why and at what cost. Written behind the request path by one thread."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Self

from sqlalchemy import func, insert, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from serving import telemetry
from serving.errors import NotFound
from serving.store.database import Database
from serving.store.models import RequestRow
from serving.types import TenantId

log = logging.getLogger(__name__)
BATCH = 256
GATHER_S = 0.1  # a transaction costs about as much as twenty records
FLUSH_S = 2.0  # no reader waits longer for the writer
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. `status` is `ok`, `error` or `cancelled`; it holds no text of anyone's."""

    id: str
    tenant: TenantId
    model: str
    key_id: str = ""
    assistant: str = ""
    mode: str = ""
    adapter: str | None = None
    stores: tuple[str, ...] = ()
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    status: str = "ok"
    error_code: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class UsageTotals:
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Ledger:
    """`record` never waits: when SQL is slower than the requests, records are counted in
    `dropped` and lost. Where SQL is away they wait, as many as `capacity`.

    Who reads here sees what was recorded here; another process sees it a transaction and
    `GATHER_S` later, and a process that is killed loses that much.
    """

    def __init__(self, db: Database, capacity: int = 10_000) -> None:
        self._db = db
        self._queue: queue.Queue[RequestRecord | threading.Event | None] = queue.Queue(capacity)
        self._hurry, self._closing = threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._write, name="engram-ledger", daemon=True)
        self._writer.start()
        self.dropped = 0

    def record(self, record: RequestRecord) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._drop(1)

    def _drop(self, count: int) -> None:
        self.dropped += count
        telemetry.LEDGER_DROPPED.inc(count)

    def flush(self, within_s: float = FLUSH_S) -> None:
        """Waits until all that was recorded before is in SQL or given up; no longer than that."""
        if not self._writer.is_alive():
            return
        written = threading.Event()
        with suppress(queue.Full):
            self._queue.put_nowait(written)
            self._hurry.set()
            written.wait(within_s)

    def close(self) -> None:
        """Writes what waits, or gives it up if SQL is away, and ends the writer."""
        self._closing.set()
        self._hurry.set()
        self._queue.put(None)
        self._writer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def recent(self, tenant: TenantId, limit: int = 50) -> tuple[RequestRecord, ...]:
        """Newest first."""
        self.flush()
        query = select(RequestRow).where(RequestRow.tenant == tenant)
        newest_first = query.order_by(RequestRow.created_at.desc(), RequestRow.id).limit(limit)
        with self._db.snapshot() as session:
            return tuple(map(_record, session.scalars(newest_first)))

    def get(self, tenant: TenantId, id: str) -> RequestRecord:
        self.flush()
        with self._db.snapshot() as session:
            row = session.get(RequestRow, id)
            if row is None or row.tenant != tenant:
                raise NotFound(f"No such request: '{id}'.")
            return _record(row)

    def usage(self, tenant: TenantId, since: float = 0.0) -> UsageTotals:
        """What the tenant used since a Unix time."""
        self.flush()
        sums = (
            func.coalesce(func.sum(column), 0)
            for column in (
                RequestRow.prompt_tokens,
                RequestRow.completion_tokens,
                RequestRow.cached_tokens,
            )
        )
        query = select(func.count(), *sums).where(
            RequestRow.tenant == tenant, RequestRow.created_at >= since
        )
        with self._db.snapshot() as session:
            return UsageTotals(*map(int, session.execute(query).one()))

    def _write(self) -> None:
        batch: list[RequestRecord | threading.Event | None] = []
        while None not in batch:
            batch = self._gathered()
            self._save([one for one in batch if isinstance(one, RequestRecord)])
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _gathered(self) -> list[RequestRecord | threading.Event | None]:
        """What came within a moment, in its order; None, which ends the writer, is the last."""
        batch = [self._queue.get()]
        if isinstance(batch[0], RequestRecord) and self._queue.qsize() < BATCH:
            self._hurry.wait(GATHER_S)
            self._hurry.clear()
        with suppress(queue.Empty):
            while len(batch) < BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        return batch

    def _save(self, records: Sequence[RequestRecord]) -> None:
        rows = [_row(record) for record in records]
        while rows and self._is_away(rows):
            if self._closing.wait(RETRY_S):
                self._drop(len(rows))
                return

    def _is_away(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Whether SQL could not be reached, or was busy for long; else the rows are written."""
        try:
            self._insert(rows)
        except OperationalError as error:
            log.warning("cannot write to the ledger; trying again: %s", error)
            return True
        except SQLAlchemyError:  # one bad record must not cost the others
            self._save_each(rows)
        return False

    def _save_each(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            try:
                self._insert([row])
            except SQLAlchemyError:
                self._drop(1)
                log.exception("could not write request %s to the ledger", row["id"])

    def _insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with self._db.session() as session:
            session.connection().execute(insert(RequestRow), rows)


_NAMES = tuple(field.name for field in fields(RequestRecord))


def _row(record: RequestRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _NAMES} | {"stores": list(record.stores)}


def _record(row: RequestRow) -> RequestRecord:
    values = {name: getattr(row, name) for name in _NAMES}
    return RequestRecord(**values | {"stores": tuple(row.stores)})

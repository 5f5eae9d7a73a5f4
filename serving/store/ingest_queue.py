"""Files waiting to be ingested: the rows of `vector_store_files` that are `in_progress`.

A worker claims one under a lease and renews it; when the worker dies, another takes the file up.
Attempts are counted before the work begins, so that a file which ends its worker each time is given
up. The number of the claim and the strategy fence: whoever lost the lease can end nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, or_, select
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.drafts import Draft, DraftLost, NewChunk, discard, write_draft
from serving.store.models import VectorStoreFileRow as Row
from serving.store.sequence import advance
from serving.store.vector_stores import FileStatus, complete_file, fail_file
from serving.types import FileErrorCode, TenantId, VectorStoreId

log = logging.getLogger(__name__)
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class IngestJob:
    """One claimed file. `chunking` is the strategy it was attached with, as OpenAI writes it."""

    tenant: TenantId
    store: VectorStoreId
    file_id: str
    filename: str
    chunking: Mapping[str, Any] | None
    attempt: int
    claim: int


class IngestQueue:
    """Safe with several workers, on SQLite and on PostgreSQL."""

    def __init__(
        self, db: Database, lease_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._lease_s = lease_s
        self._clock = clock
        self._last = TenantId("")
        status = FileStatus.IN_PROGRESS.value
        self._waiting = db.probe(
            f"SELECT count(*) FROM {Row.__tablename__} WHERE status = '{status}'"
        )

    def claim(self) -> IngestJob | None:
        """The next file that nobody works on; None if there is none.

        Tenants take turns, round and round by their names, so that ten thousand files of some do
        not hold up another's only one. A tenant's file that failed before waits for those of the
        same tenant that did not.
        """
        with self._db.snapshot() as session:  # an idle worker never asks for SQLite's write lock
            if session.scalar(select(Row.file).where(*self._free()).limit(1)) is None:
                return None
        with self._db.session() as session:
            return self._claim(session)

    def _claim(self, session: Session) -> IngestJob | None:
        turn = case((Row.tenant > self._last, 0), else_=1)
        order = (turn, Row.tenant, Row.attempts, Row.seq)
        free = select(Row).where(*self._free()).order_by(*order).limit(1)
        # SQLite has one writer and needs no lock of rows.
        while row := session.scalars(free.with_for_update(skip_locked=True)).first():
            if row.attempts < MAX_ATTEMPTS:
                row.attempts, row.claims = row.attempts + 1, row.claims + 1
                row.claimed_until = self._clock() + self._lease_s
                self._last = TenantId(row.tenant)
                return _job(row)
            reason = f"'{row.filename}' ended the worker {row.attempts} times."
            fail_file(row, "server_error", reason)
        return None

    def _free(self) -> tuple[ColumnElement[bool], ...]:
        unclaimed = or_(Row.claimed_until.is_(None), Row.claimed_until < self._clock())
        return (Row.status == FileStatus.IN_PROGRESS, unclaimed)

    def renew(self, job: IngestJob) -> bool:
        """Keeps the claim; False when it was lost: to another worker, a delete or a cancel."""
        with self._db.session() as session:
            row = _claimed(session, job)
            if row is not None:
                row.claimed_until = self._clock() + self._lease_s
            return row is not None

    def release(self, job: IngestJob) -> None:
        """Gives the file back untouched, as if it had never been claimed."""
        with self._db.session() as session:
            row = _claimed(session, job)
            if row is not None:
                row.claimed_until = None
                row.attempts, row.claims = row.attempts - 1, row.claims + 1

    def retry(self, job: IngestJob, reason: str) -> FileStatus:
        """After an error that may pass: free for the next attempt, or failed after the last."""
        with self._db.session() as session:
            row = _claimed(session, job)
            if row is None:
                return FileStatus.FAILED
            if row.attempts < MAX_ATTEMPTS:
                row.claimed_until = None
            else:
                fail_file(row, "server_error", reason)
            return FileStatus(row.status)

    def complete(self, job: IngestJob, embedder: str, chunks: Iterable[NewChunk]) -> bool:
        """Makes the chunks visible together with the status; False when the claim was lost.

        They are written before, in transactions so small that other writers hardly wait.

        Raises:
            Conflict: the store's other files were embedded with another model.
        """
        draft = write_draft(self._db, job.store, job.file_id, job.claim, chunks)
        done = False
        try:
            done = self._publish(job, embedder, draft)
        except DraftLost:
            log.warning("the claim on %s seemed to be lost; it is tried again", job.file_id)
        finally:
            if not done:
                discard(self._db, draft.id)
        return done

    def _publish(self, job: IngestJob, embedder: str, draft: Draft) -> bool:
        with self._db.session() as session:
            seq = advance(session)  # first, so that no other writer changes what is read below
            row = _claimed(session, job)
            if row is not None:
                complete_file(session, row, seq, embedder, draft)
            return row is not None

    def fail(self, job: IngestJob, code: FileErrorCode, reason: str) -> bool:
        """Ends the file's way with a reason that its owner can read."""
        with self._db.session() as session:
            row = _claimed(session, job)
            if row is not None:
                fail_file(row, code, reason)
            return row is not None

    def depth(self) -> int:
        """Files waiting or being worked on; cheap enough to ask again and again, in one thread."""
        return self._waiting.read()

    def close(self) -> None:
        self._waiting.close()


def _claimed(session: Session, job: IngestJob) -> Row | None:
    """The row, if this claim still is the one that counts."""
    row = session.get(Row, (job.store, job.file_id), with_for_update=True)
    if row is None or row.status != FileStatus.IN_PROGRESS:
        return None
    return row if (row.claims, row.chunking) == (job.claim, job.chunking) else None


def _job(row: Row) -> IngestJob:
    return IngestJob(
        TenantId(row.tenant),
        VectorStoreId(row.store),
        row.file,
        row.filename,
        row.chunking,
        row.attempts,
        row.claims,
    )

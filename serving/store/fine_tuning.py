"""Fine-tuning jobs, what they say of themselves, and where they can go on from.

Persistence alone: which changes are legal is decided by the functions it is given.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, or_, select
from sqlalchemy.orm import Session

from serving.errors import NotFound
from serving.store.database import Database, Probe
from serving.store.models import FineTuningCheckpointRow as CheckpointRow
from serving.store.models import FineTuningEventRow as EventRow
from serving.store.models import FineTuningJobRow as Row
from serving.store.pages import FIRST, Page, Window, page
from serving.types import TenantId

_COLUMNS = (
    *("status", "wanted", "body", "attempts", "claimed_by", "claimed_until", "finished_at"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """`body` holds OpenAI's fields that are not here; times are Unix seconds."""

    id: str
    tenant: TenantId
    status: str
    body: Mapping[str, Any]
    created_at: int
    wanted: str | None = None
    attempts: int = 0
    claimed_by: str | None = None
    claimed_until: float | None = None
    finished_at: int | None = None


Change = Callable[[Job], Job]


@dataclass(frozen=True, slots=True)
class Note:
    """What a job says; `data` of the type `metrics` holds numbers."""

    message: str
    level: str = "info"
    type: str = "message"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    created_at: int
    note: Note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a job can go on from: `state` is an object. `adapter` is `name@version` and `model`
    its own name, where it was registered."""

    step: int
    state: str | None
    metrics: Mapping[str, Any]
    id: str = ""
    created_at: int = 0
    adapter: str | None = None


class FineTuning:
    """One tenant's jobs look to another as if they did not exist."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._last = TenantId("")

    def create(self, job: Job, *notes: Note) -> Job:
        with self._db.session() as session:
            columns = {name: getattr(job, name) for name in ("id", "tenant", "created_at")}
            row = Row(**columns, **{name: getattr(job, name) for name in _COLUMNS})
            row.body = dict(job.body)
            session.add(row)
            session.flush()
            self._say(session, job.id, notes)
        return job

    def get(self, tenant: TenantId, job_id: str) -> Job:
        with self._db.snapshot() as session:
            return _job(_find(session, tenant, job_id))

    def list(
        self,
        tenant: TenantId,
        window: Window = FIRST,
        metadata: Mapping[str, str] | None = None,
        without_metadata: bool = False,
    ) -> Page[Job]:
        """`metadata`: pairs that a job must have; `without_metadata`: only those with none."""
        kept = Row.body["metadata"]
        narrowed: list[ColumnElement[bool]] = [
            kept[key].as_string() == value for key, value in (metadata or {}).items()
        ]
        if without_metadata:
            narrowed.append(kept.as_string().is_(None))
        query = select(Row).where(Row.tenant == tenant)
        with self._db.snapshot() as session:
            rows = page(session, query, window, Row.created_at, Row.id, *narrowed)
            return Page(tuple(map(_job, rows.items)), rows.has_more)

    def count(self, statuses: Collection[str], tenant: TenantId | None = None) -> int:
        """Jobs in one of these states, of one tenant or of all."""
        query = select(func.count()).select_from(Row).where(Row.status.in_(statuses))
        if tenant is not None:
            query = query.where(Row.tenant == tenant)
        with self._db.snapshot() as session:
            return session.scalar(query) or 0

    def change(self, tenant: TenantId, job_id: str, change: Change, *notes: Note) -> Job:
        """Applies `change` to the job as it is now; the notes are kept if it changed anything."""
        with self._db.session() as session:
            row = _find(session, tenant, job_id, lock=True)
            before = _job(row)
            after = change(before)
            if after != before:
                _write(row, after)
                self._say(session, job_id, notes)
            return after

    def events(self, tenant: TenantId, job_id: str, window: Window = FIRST) -> Page[Event]:
        """Newest first, unless asked for otherwise."""
        query = select(EventRow).where(EventRow.job == job_id)
        with self._db.snapshot() as session:
            _find(session, tenant, job_id)
            rows = page(session, query, window, EventRow.number, EventRow.id)
            return Page(tuple(map(_event, rows.items)), rows.has_more)

    def metrics(self, job_id: str) -> Sequence[Mapping[str, Any]]:
        """The data of all its events of the type `metrics`, oldest first."""
        query = select(EventRow.data).where(EventRow.job == job_id, EventRow.type == "metrics")
        with self._db.snapshot() as session:
            return session.scalars(query.order_by(EventRow.number)).all()

    def checkpoints(
        self, tenant: TenantId, job_id: str, window: Window = FIRST
    ) -> Page[Checkpoint]:
        """Those that can be asked for as a model, last first."""
        query = select(CheckpointRow).where(
            CheckpointRow.job == job_id, CheckpointRow.adapter.is_not(None)
        )
        with self._db.snapshot() as session:
            _find(session, tenant, job_id)
            rows = page(session, query, window, CheckpointRow.step, CheckpointRow.id)
            return Page(tuple(map(_checkpoint, rows.items)), rows.has_more)

    # For workers

    def probe(self, statuses: Collection[str]) -> Probe:
        """How many jobs are in one of these states, cheap enough to ask again and again."""
        listed = ", ".join(f"'{status}'" for status in sorted(statuses))
        return self._db.probe(
            f"SELECT count(*) FROM {Row.__tablename__} WHERE status IN ({listed})"
        )

    def claim(self, statuses: Collection[str], change: Change) -> Job | None:
        """The next job in one of these states that nobody works on, changed; None if there is
        none. Tenants take turns, round and round by their names."""
        free = self._free(statuses)
        with self._db.snapshot() as session:  # an idle worker never asks for SQLite's write lock
            if session.scalar(select(Row.id).where(*free).limit(1)) is None:
                return None
        with self._db.session() as session:
            turn = case((Row.tenant > self._last, 0), else_=1)
            query = select(Row).where(*free).order_by(turn, Row.tenant, Row.created_at, Row.id)
            row = session.scalars(query.limit(1).with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            self._last = TenantId(row.tenant)
            job = change(_job(row))
            _write(row, job)
            return job

    def _free(self, statuses: Collection[str]) -> tuple[ColumnElement[bool], ...]:
        unclaimed = or_(Row.claimed_until.is_(None), Row.claimed_until < self._clock())
        return (Row.status.in_(statuses), unclaimed)

    def write(
        self,
        claim: str,
        job_id: str,
        change: Change | None = None,
        notes: Sequence[Note] = (),
        checkpoints: Sequence[Checkpoint] = (),
    ) -> Job | None:
        """Whatever a worker has to keep, together; None, and nothing is kept, when its claim is
        lost: to another worker, or to the user's cancel."""
        with self._db.session() as session:
            row = session.get(Row, job_id, with_for_update=True)
            if row is None or row.claimed_by != claim:
                return None
            job = _job(row)
            if change is not None:
                job = change(job)
                _write(row, job)
            self._say(session, job_id, notes)
            for checkpoint in checkpoints:
                self._put(session, job_id, checkpoint)
            return job

    def say(self, job_id: str, *notes: Note) -> None:
        """For what nobody has a claim to any more."""
        with self._db.session() as session:
            session.get(Row, job_id, with_for_update=True)  # numbers are given one after another
            self._say(session, job_id, notes)

    def with_states(self, statuses: Collection[str]) -> Sequence[str]:
        """Jobs in one of these states of which there still is something to go on from."""
        query = select(Row.id).where(
            Row.status.in_(statuses),
            Row.id.in_(select(CheckpointRow.job).where(CheckpointRow.state.is_not(None))),
        )
        with self._db.snapshot() as session:
            return session.scalars(query).all()

    def states(self, job_id: str) -> Sequence[Checkpoint]:
        """All checkpoints that still have their state, oldest first."""
        query = select(CheckpointRow).where(
            CheckpointRow.job == job_id, CheckpointRow.state.is_not(None)
        )
        with self._db.snapshot() as session:
            return [_checkpoint(row) for row in session.scalars(query.order_by(CheckpointRow.step))]

    def referenced(self, states: Collection[str]) -> set[str]:
        """Those of the objects that some checkpoint still names."""
        query = select(CheckpointRow.state).where(CheckpointRow.state.in_(states))
        with self._db.snapshot() as session:
            return {state for state in session.scalars(query) if state}

    def all_states(self) -> set[str]:
        """Every object that some checkpoint names."""
        query = select(CheckpointRow.state).where(CheckpointRow.state.is_not(None))
        with self._db.snapshot() as session:
            return {state for state in session.scalars(query) if state}

    def held(self, claims: Collection[str]) -> set[str]:
        """Those of the claims by which somebody still has a job."""
        query = select(Row.claimed_by).where(Row.claimed_by.in_(claims))
        with self._db.snapshot() as session:
            return {claim for claim in session.scalars(query) if claim}

    def _put(self, session: Session, job_id: str, checkpoint: Checkpoint) -> None:
        row = session.get(CheckpointRow, (job_id, checkpoint.step))
        if row is None:
            row = CheckpointRow(
                job=job_id,
                step=checkpoint.step,
                id=f"ftckpt_{secrets.token_hex(12)}",
                created_at=int(self._clock()),
            )
            session.add(row)
        row.state, row.adapter = checkpoint.state, checkpoint.adapter
        row.metrics = dict(checkpoint.metrics)

    def forget_state(self, job_id: str, steps: Collection[int]) -> None:
        """What is neither a state to go on from nor a model any more is no checkpoint."""
        with self._db.session() as session:
            rows = session.scalars(
                select(CheckpointRow).where(
                    CheckpointRow.job == job_id, CheckpointRow.step.in_(steps)
                )
            ).all()
            for row in rows:
                row.state = None
            session.flush()
            session.execute(
                delete(CheckpointRow).where(
                    CheckpointRow.job == job_id,
                    CheckpointRow.state.is_(None),
                    CheckpointRow.adapter.is_(None),
                )
            )

    def _say(self, session: Session, job_id: str, notes: Sequence[Note]) -> None:
        if not notes:
            return
        last = session.scalar(select(func.max(EventRow.number)).where(EventRow.job == job_id))
        for number, note in enumerate(notes, (last or 0) + 1):
            session.add(
                EventRow(
                    job=job_id,
                    number=number,
                    id=f"ftevent-{secrets.token_hex(12)}",
                    level=note.level,
                    type=note.type,
                    message=note.message,
                    data=dict(note.data),
                    created_at=int(self._clock()),
                )
            )


def _find(session: Session, tenant: TenantId, job_id: str, lock: bool = False) -> Row:
    row = session.get(Row, job_id, with_for_update=lock or None)
    if row is None or row.tenant != tenant:
        raise NotFound(f"No such fine-tuning job: '{job_id}'.", param="fine_tuning_job_id")
    return row


def _write(row: Row, job: Job) -> None:
    for name in _COLUMNS:
        setattr(row, name, getattr(job, name))
    row.body = dict(job.body)


def _job(row: Row) -> Job:
    columns = {name: getattr(row, name) for name in _COLUMNS}
    return Job(id=row.id, tenant=TenantId(row.tenant), created_at=row.created_at, **columns)


def _event(row: EventRow) -> Event:
    return Event(row.id, row.created_at, Note(row.message, row.level, row.type, row.data))


def _checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint(row.step, row.state, row.metrics, row.id, row.created_at, row.adapter)

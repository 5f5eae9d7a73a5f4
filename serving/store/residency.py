"""What each gateway replica last said of the adapters in its engine, and what they should hold.

Reports of a replica that died run out; nobody needs to notice its death.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import delete, func, select, tuple_

from serving.store.database import Database
from serving.store.models import AdapterRow, ResidencyRow
from serving.types import AdapterId, TenantId

EXPIRES_S = 15.0
SERVABLE, GONE = ("staged", "promoted"), ("retired", "deleted")
_NAMES = (AdapterRow.tenant, AdapterRow.name, AdapterRow.version)
_WANTED = (
    select(*_NAMES, AdapterRow.pinned, AdapterRow.state)
    .where(AdapterRow.state.in_(SERVABLE), AdapterRow.pinned | (AdapterRow.state == "promoted"))
    .order_by(AdapterRow.created_at, *_NAMES)
)


@dataclass(frozen=True, slots=True)
class Report:
    """One adapter on one replica; `adapter` is `tenant/name@version`."""

    adapter: AdapterId
    state: str
    leases: int
    hits: int
    load_ms: float | None
    replica: str = ""
    reported_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Desired:
    """All as `tenant/name@version`. `gone`: those of the asked about that may serve no longer."""

    pinned: tuple[AdapterId, ...]  # first pinned by age, so that a new one displaces none
    promoted: frozenset[AdapterId]
    gone: frozenset[AdapterId]


class Residencies:
    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def desired(self, resident: Collection[AdapterId]) -> Desired:
        """What a replica that holds these should hold."""
        held = [_key(id) for id in resident]
        gone = select(*_NAMES).where(AdapterRow.state.in_(GONE), tuple_(*_NAMES).in_(held))
        with self._db.snapshot() as session:
            wanted = [(_id(row[:3]), *row[3:]) for row in session.execute(_WANTED)]
            return Desired(
                tuple(id for id, is_pinned, _ in wanted if is_pinned),
                frozenset(id for id, _, state in wanted if state == "promoted"),
                frozenset(map(_id, session.execute(gone))) if held else frozenset(),
            )

    def report(self, replica: str, held: Iterable[Report]) -> None:
        """Replaces what the replica said before, and forgets replicas that say nothing more."""
        now = self._clock()
        silent = ResidencyRow.reported_at < now - EXPIRES_S
        with self._db.session() as session:
            session.execute(delete(ResidencyRow).where(silent | (ResidencyRow.replica == replica)))
            for one in held:
                session.add(
                    ResidencyRow(
                        replica=replica,
                        adapter=one.adapter,
                        state=one.state,
                        leases=one.leases,
                        hits=one.hits,
                        load_ms=one.load_ms,
                        reported_at=now,
                    )
                )

    def of(self, tenant: TenantId) -> tuple[Report, ...]:
        """The tenant's adapters on every living replica, by adapter."""
        prefix = f"{tenant}/"
        query = select(ResidencyRow).where(
            func.substr(ResidencyRow.adapter, 1, len(prefix)) == prefix,  # LIKE folds case
            ResidencyRow.reported_at >= self._clock() - EXPIRES_S,
        )
        ordered = query.order_by(ResidencyRow.adapter, ResidencyRow.replica)
        with self._db.snapshot() as session:
            return tuple(map(_report, session.scalars(ordered)))


def _key(id: AdapterId) -> tuple[str, str, int]:
    tenant, _, version = id.rpartition("/")
    name, _, number = version.rpartition("@")
    return tenant, name, int(number)


def _id(row: Iterable[object]) -> AdapterId:
    tenant, name, version = row
    return AdapterId(f"{tenant}/{name}@{version}")


def _report(row: ResidencyRow) -> Report:
    return Report(
        adapter=AdapterId(row.adapter),
        state=row.state,
        leases=row.leases,
        hits=row.hits,
        load_ms=row.load_ms,
        replica=row.replica,
        reported_at=row.reported_at,
    )

"""Adapter versions in SQL: numbers that are never given twice, and moves from state to state.

Every writer holds one lock, so that a number, a promotion and what an object is still needed for
are decided by one transaction at a time. Which moves are legal it is told by `advance`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session

from serving.errors import Conflict, NotFound, UnknownModel
from serving.store import adapter_rows as rows
from serving.store.database import Database, hold
from serving.store.models import AdapterRow, TenantRow
from serving.store.pages import FIRST, Page, Window, page
from serving.types import AdapterId, AdapterVersion, TenantId, VersionState

Advance = Callable[[AdapterId, VersionState, VersionState], VersionState]
Key = tuple[str, int]  # name and version
LOCK = "adapters"
_ID = AdapterRow.name + "@" + cast(AdapterRow.version, Text)


class AdapterVersions:
    """One tenant's versions look to another as if they did not exist."""

    def __init__(
        self, db: Database, advance: Advance, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._advance = advance
        self._clock = clock

    def get(self, tenant: TenantId, name: str, version: int) -> AdapterVersion | None:
        """Also a deleted one."""
        with self._db.snapshot() as session:
            row = session.get(AdapterRow, (tenant, name, version))
            return rows.version(row) if row else None

    def by_model(self, tenant: TenantId, model: str) -> AdapterVersion | None:
        """The version that a fine-tuning job gave this name."""
        query = rows.of(tenant).where(AdapterRow.model == model)
        return self._first(query.order_by(AdapterRow.created_at.desc()))

    def current(self, tenant: TenantId, name: str) -> AdapterVersion | None:
        """What the bare name means: the promoted version, else the newest staged one."""
        return self._first(rows.current(tenant, name))

    def list(self, tenant: TenantId) -> tuple[AdapterVersion, ...]:
        """All but the deleted, by name and version."""
        return self._all(rows.of(tenant).order_by(AdapterRow.name, AdapterRow.version))

    def page(
        self,
        tenant: TenantId,
        window: Window = FIRST,
        name: str | None = None,
        state: VersionState | None = None,
    ) -> Page[AdapterVersion]:
        narrowed = [] if name is None else [AdapterRow.name == name]
        narrowed += [] if state is None else [AdapterRow.state == state]
        with self._db.snapshot() as session:
            found = page(session, rows.of(tenant), window, AdapterRow.created_at, _ID, *narrowed)
            return Page(tuple(map(rows.version, found.items)), found.has_more)

    def numbers(self, tenant: TenantId) -> frozenset[Key]:
        """Every name and version there is or ever was."""
        query = select(AdapterRow.name, AdapterRow.version).where(AdapterRow.tenant == tenant)
        with self._db.snapshot() as session:
            return frozenset((name, version) for name, version in session.execute(query))

    def add(
        self, draft: AdapterVersion, keep_objects: Callable[[], None], *, numbered: bool = False
    ) -> AdapterVersion:
        """Writes the row of files that are in the object store.

        Under its name it gets the next number, or is the version with the same files that is
        already there; `numbered` keeps the draft's own number, and another's row under it.
        `keep_objects` stores again what was swept away meanwhile.

        Raises:
            NotFound: there is no such tenant.
        """
        with self._db.session() as session:
            if session.get(TenantRow, draft.tenant) is None:
                raise NotFound(f"No such tenant: '{draft.tenant}'.")
            hold(session, LOCK)
            there = rows.numbered(session, draft) if numbered else rows.twin(session, draft)
            if there is not None:
                return rows.version(there)
            number = draft.version if numbered else rows.newest(session, draft) + 1
            keep_objects()
            row = rows.row(draft, number)
            session.add(row)
        return rows.version(row)

    def promote(self, tenant: TenantId, name: str, version: int) -> AdapterVersion:
        """Makes the bare name mean this version; again changes nothing.

        Raises:
            UnknownModel: there is no such version.
            Conflict: it cannot be promoted.
        """
        with self._db.session() as session:
            row = self._locked(session, tenant, name, version)
            if row.state != VersionState.PROMOTED:
                for other in session.scalars(rows.promoted(tenant, name)):
                    self._move(other, VersionState.STAGED)
                self._move(row, VersionState.PROMOTED)
                most = select(func.max(AdapterRow.promotion)).where(*rows.named(tenant, name))
                row.promotion = (session.scalar(most) or 0) + 1
        return rows.version(row)

    def rollback(self, tenant: TenantId, name: str) -> AdapterVersion:
        """Makes the bare name mean what it meant before its last promotion.

        Raises:
            UnknownModel: no version of it is promoted.
            Conflict: none was promoted before, or that one is retired.
        """
        with self._db.session() as session:
            hold(session, LOCK)
            row = session.scalar(rows.promoted(tenant, name))
            if row is None:
                raise UnknownModel(f"adapter '{name}' has no promoted version", param="adapter")
            before = rows.previous(session, tenant, name)
            if before is None:
                raise Conflict(
                    f"no version of adapter '{name}' was promoted before '{name}@{row.version}' "
                    "and still serves: promote one by its number",
                    param="adapter",
                )
            self._move(row, VersionState.STAGED)
            row.promotion = None
            self._move(before, VersionState.PROMOTED)
        return rows.version(before)

    def retire(self, tenant: TenantId, name: str, version: int) -> AdapterVersion:
        """Ends new requests to the version; again changes nothing.

        Raises:
            UnknownModel: there is no such version.
            Conflict: an assistant needs it.
        """
        with self._db.session() as session:
            row = self._locked(session, tenant, name, version)
            if row.state != VersionState.RETIRED:
                rows.check_unused(session, row)
                self._move(row, VersionState.RETIRED)
                row.pinned = False
                row.promotion = None
        return rows.version(row)

    def delete(self, tenant: TenantId, name: str, version: int) -> AdapterVersion:
        """Leaves only the number; returns what was there.

        Raises:
            UnknownModel: there is no such version.
            Conflict: it is not retired, or an assistant needs it.
        """
        with self._db.session() as session:
            row = self._locked(session, tenant, name, version)
            rows.check_unused(session, row)
            self._move(row, VersionState.DELETED)
            was = rows.version(row)
            row.manifest, row.bytes, row.metrics = {}, 0, {}
        return was

    def pin(self, tenant: TenantId, name: str, version: int, pinned: bool) -> AdapterVersion:
        """Says whether every replica loads the version before it is ready.

        Raises:
            UnknownModel: there is no such version.
            Conflict: it is retired.
        """
        with self._db.session() as session:
            row = self._locked(session, tenant, name, version)
            if pinned and row.state == VersionState.RETIRED:
                raise Conflict(
                    f"adapter '{name}@{version}' is retired: promote it first", param="adapter"
                )
            row.pinned = pinned
        return rows.version(row)

    def discard(self, objects: Iterable[str], remove: Callable[[str], None]) -> int:
        """Removes those objects that no version needs any more; returns how many those were."""
        with self._db.session() as session:
            hold(session, LOCK)
            needed = rows.needed(session)
            loose = [sha256 for sha256 in objects if sha256 not in needed]
            for sha256 in loose:
                remove(sha256)
        return len(loose)

    def _locked(self, session: Session, tenant: TenantId, name: str, version: int) -> AdapterRow:
        hold(session, LOCK)
        return rows.live(session, tenant, name, version)

    def _move(self, row: AdapterRow, new: VersionState) -> None:
        row.state = self._advance(rows.id_of(row), VersionState(row.state), new)
        row.changed_at = int(self._clock())

    def _first(self, query: Select[AdapterRow]) -> AdapterVersion | None:
        return next(iter(self._all(query.limit(1))), None)

    def _all(self, query: Select[AdapterRow]) -> tuple[AdapterVersion, ...]:
        with self._db.snapshot() as session:
            return tuple(map(rows.version, session.scalars(query)))

"""Tenants and their API keys. Only a token's hash is stored; the token is shown once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from serving.errors import NotFound, Unauthenticated
from serving.store.cache import RecentlyRead
from serving.store.database import Database
from serving.store.models import ApiKeyRow, TenantRow
from serving.types import Caller, TenantId

PREFIX = "sk-engram-"
CACHE_S = 5.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as an operator sees it."""

    id: str
    tenant: TenantId
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: int
    revoked_at: int | None


class Keys:
    """Who calls. A revoked key stops at once in this process, within `CACHE_S` elsewhere."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._clock = clock
        self._callers: RecentlyRead[str, Caller] = RecentlyRead(CACHE_S, monotonic)

    def ensure_tenant(self, tenant: TenantId) -> None:
        """Creates the tenant unless it exists."""
        try:
            with self._db.session() as session:
                if session.get(TenantRow, tenant) is None:
                    session.add(TenantRow(id=tenant, created_at=int(self._clock())))
        except IntegrityError:
            pass  # another process was first

    def tenants(self) -> tuple[TenantId, ...]:
        with self._db.snapshot() as session:
            return tuple(
                map(TenantId, session.scalars(select(TenantRow.id).order_by(TenantRow.id)))
            )

    def create(self, tenant: TenantId, name: str, scopes: Iterable[str]) -> str:
        """A new token for an existing tenant. It cannot be read again."""
        token = PREFIX + secrets.token_urlsafe(32)
        self.register(tenant, name, scopes, token)
        return token

    def register(self, tenant: TenantId, name: str, scopes: Iterable[str], token: str) -> None:
        """Makes a token chosen elsewhere valid; again for the same token changes nothing."""
        with self._db.session() as session:
            _require_tenant(session, tenant)
            if _find(session, token) is None:
                session.add(self._row(tenant, name, scopes, token))

    def _row(self, tenant: TenantId, name: str, scopes: Iterable[str], token: str) -> ApiKeyRow:
        return ApiKeyRow(
            id=f"key_{secrets.token_hex(8)}",
            tenant=tenant,
            name=name,
            token_sha256=_hash(token),
            prefix=token[: len(PREFIX) + 4],
            scopes=sorted(set(scopes)),
            created_at=int(self._clock()),
        )

    def authenticate(self, token: str) -> Caller:
        """The caller behind a token; asks SQL at most once per `CACHE_S`.

        Raises:
            Unauthenticated: the token is unknown or revoked.
        """
        hashed = _hash(token)
        caller = self._callers.get(hashed)
        if caller is None:
            mark = self._callers.mark()
            caller = self._read(token)
            self._callers.put(hashed, caller, mark)
        return caller

    async def caller(self, token: str) -> Caller:
        """`authenticate` without ever blocking the event loop on SQL."""
        known = self._callers.get(_hash(token))
        return await asyncio.to_thread(self.authenticate, token) if known is None else known

    def _read(self, token: str) -> Caller:
        with self._db.snapshot() as session:
            row = _find(session, token)
            if row is None or row.revoked_at is not None:
                raise Unauthenticated("The API key is unknown or revoked.")
            return Caller(TenantId(row.tenant), row.id, frozenset(row.scopes))

    def revoke(self, key_id: str) -> None:
        """Ends a key for good; again is harmless."""
        with self._db.session() as session:
            if session.get(ApiKeyRow, key_id) is None:
                raise NotFound(f"No such API key: '{key_id}'.")
            session.execute(
                update(ApiKeyRow)
                .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
                .values(revoked_at=int(self._clock()))
            )
        self._callers.clear()

    def list(self, tenant: TenantId) -> tuple[ApiKey, ...]:
        """The tenant's keys, revoked ones too, oldest first."""
        query = select(ApiKeyRow).where(ApiKeyRow.tenant == tenant)
        with self._db.snapshot() as session:
            rows = session.scalars(query.order_by(ApiKeyRow.created_at, ApiKeyRow.id))
            return tuple(map(_api_key, rows))


def _find(session: Session, token: str) -> ApiKeyRow | None:
    return session.scalar(select(ApiKeyRow).where(ApiKeyRow.token_sha256 == _hash(token)))


def _require_tenant(session: Session, tenant: TenantId) -> None:
    if session.get(TenantRow, tenant) is None:
        raise NotFound(f"No such tenant: '{tenant}'.")


def _api_key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        row.id,
        TenantId(row.tenant),
        row.name,
        row.prefix,
        tuple(row.scopes),
        row.created_at,
        row.revoked_at,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""Keys: what is stored, who is let in, and when a revoked key stops."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from serving.errors import NotFound, Unauthenticated
from serving.store.database import Database
from serving.store.keys import CACHE_S, PREFIX, Keys
from serving.types import TenantId
from tests.store.conftest import ACME, OTHER, Clock


def test_a_token_opens_its_tenant_with_its_scopes(db: Database) -> None:
    keys = Keys(db)
    token = keys.create(ACME, "app", ["inference", "admin"])
    caller = keys.authenticate(token)
    assert (caller.tenant, caller.scopes) == (ACME, frozenset({"inference", "admin"}))
    assert caller.key_id == keys.list(ACME)[0].id
    assert token.startswith(PREFIX)


def test_only_the_hash_of_a_token_is_stored(db: Database) -> None:
    token = Keys(db).create(ACME, "app", [])
    with db.snapshot() as session:
        row = str(session.execute(text("SELECT * FROM api_keys")).one())
    assert token not in row
    assert token.removeprefix(PREFIX)[8:] not in row


def test_an_unknown_token_is_refused(db: Database) -> None:
    with pytest.raises(Unauthenticated):
        Keys(db).authenticate(PREFIX + "nobody")


def test_a_revoked_key_stops_at_once_here_and_within_the_cache_time_elsewhere(
    db: Database, clock: Clock
) -> None:
    here, elsewhere = Keys(db), Keys(db, monotonic=clock)
    token = here.create(ACME, "app", [])
    elsewhere.authenticate(token)
    here.authenticate(token)
    here.revoke(here.list(ACME)[0].id)
    with pytest.raises(Unauthenticated):
        here.authenticate(token)
    clock.now += CACHE_S
    with pytest.raises(Unauthenticated):
        elsewhere.authenticate(token)


def test_a_known_token_needs_no_sql(db: Database, clock: Clock) -> None:
    keys = Keys(db, monotonic=clock)
    token = keys.create(ACME, "app", [])
    caller = keys.authenticate(token)
    with db.session() as session:
        session.execute(text("DELETE FROM api_keys"))
    clock.now += CACHE_S - 1
    assert keys.authenticate(token) == caller


async def test_the_event_loop_gets_the_same_caller(db: Database) -> None:
    keys = Keys(db)
    token = keys.create(ACME, "app", [])
    assert await keys.caller(token) == keys.authenticate(token)
    with pytest.raises(Unauthenticated):
        await keys.caller("sk-engram-nobody")


def test_registering_a_token_twice_makes_one_key(db: Database) -> None:
    keys = Keys(db)
    for _ in range(2):
        keys.register(ACME, "demo", ["inference"], "sk-engram-demo")
    assert [key.name for key in keys.list(ACME)] == ["demo"]


def test_keys_are_listed_by_tenant(db: Database) -> None:
    keys = Keys(db)
    keys.create(ACME, "app", [])
    assert keys.list(OTHER) == ()


def test_unknown_tenants_and_keys_are_not_found(db: Database) -> None:
    with pytest.raises(NotFound):
        Keys(db).create(TenantId("nobody"), "app", [])
    with pytest.raises(NotFound):
        Keys(db).revoke("key_nobody")

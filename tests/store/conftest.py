"""A migrated database of each kind; PostgreSQL's is created for the test and dropped after."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from serving.store.database import Database
from serving.store.keys import Keys
from serving.types import TenantId

POSTGRES = "postgresql://postgres@127.0.0.1:5432"
ACME = TenantId("acme")
OTHER = TenantId("other")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'engram.sqlite'}"
        return
    name = f"engram_{uuid.uuid4().hex[:12]}"
    try:
        server = psycopg.connect(f"{POSTGRES}/test", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        pytest.skip(f"no PostgreSQL answers at {POSTGRES}")
    with server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"{POSTGRES}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    database = Database(url)
    database.migrate()
    for tenant in (ACME, OTHER):
        Keys(database).ensure_tenant(tenant)
    yield database
    database.close()


class Clock:
    """Time that passes when told."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()

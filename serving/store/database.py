"""Where SQL lives: sessions, SQLite's pragmas and the migrations.

SQLite (WAL) serves one machine, PostgreSQL more than one; nothing above this file knows which.
"""

from __future__ import annotations

import fcntl
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 30_000
_READ_ONLY = "engram_read_only"


class Database:
    """A pool of connections. `session` writes, `snapshot` reads; both are safe in any thread."""

    def __init__(self, url: str) -> None:
        self._url = _with_driver(url)
        self._engine = create_engine(
            self._url, hide_parameters=True, pool_pre_ping=not _is_sqlite(self._url)
        )
        if _is_sqlite(self._url):
            _prepare_sqlite(self._engine)
        self._reader = self._engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction that writes: commits at the end of the block, or not at all."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """One transaction that only reads, and so waits for no writer."""
        with Session(self._reader) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Brings the schema to the newest version; several processes may call it at once."""
        with self._one_at_a_time(), self._engine.begin() as connection:
            _hold(connection, "migrate")
            command.upgrade(_alembic(connection), "head")

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """SQLite cannot switch to WAL while another process opens the file, so a lock file."""
        if not _is_sqlite(self._url):
            yield
            return
        with Path(f"{self._url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with closing(sqlite3.connect(str(self._url.database))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            yield


def hold(session: Session, name: str) -> None:
    """Keeps every other transaction that holds `name` waiting until this one ends."""
    _hold(session.connection(), name)


def _hold(connection: Connection, name: str) -> None:
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(select(func.pg_advisory_xact_lock(zlib.crc32(name.encode()))))


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _with_driver(url: str) -> URL:
    parsed = make_url(url)
    is_plain = parsed.drivername in ("postgresql", "postgres")
    return parsed.set(drivername="postgresql+psycopg") if is_plain else parsed


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _prepare_sqlite(engine: Engine) -> None:
    """Explicit BEGIN, so that a writer takes its lock at once instead of failing half way."""
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

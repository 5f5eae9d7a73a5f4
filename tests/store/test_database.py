"""Migrations and transactions, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from serving.store.chunks import follow
from serving.store.database import Database, _alembic
from serving.store.keys import Keys
from serving.store.models import Base
from serving.types import TenantId

ROOT = Path(__file__).parents[2]


def test_the_migrations_make_exactly_the_models_schema(db: Database, url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_several_processes_migrate_at_once(url: str) -> None:
    script = (
        "import sys; from serving.store.database import Database; Database(sys.argv[1]).migrate()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(process.wait(), process.communicate()[1]) for process in started] == [(0, b"")] * 3


def test_migrating_again_keeps_what_is_there(db: Database) -> None:
    Keys(db).ensure_tenant(TenantId("kept"))
    db.migrate()
    assert "kept" in Keys(db).tenants()


def test_chunks_of_before_drafts_are_kept(url: str) -> None:
    before = Database(url)
    with before.session() as session:
        alembic.upgrade(_alembic(session.connection()), "0003")
        session.execute(
            text(
                "INSERT INTO chunks (seq, id, tenant, store, file, text, title, heading_path,"
                " start, \"end\", embedding) VALUES (7, 'f-0', 't', 's', 'f', 'words', 'title',"
                " '[\"title\"]', 0, 5, :vector)"
            ),
            {"vector": bytes(8)},
        )
        session.execute(text("UPDATE sequence SET value = 9 WHERE name = 'changes'"))
    before.migrate()
    [chunk] = [chunk for changes in follow(before, 0) for chunk in changes.chunks]
    before.close()
    assert (chunk.seq, chunk.id, chunk.text, chunk.end) == (7, "f-0", "words", 5)
    assert (chunk.heading_path, len(chunk.embedding)) == (("title",), 2)


def test_a_failing_block_writes_nothing(db: Database) -> None:
    with pytest.raises(DBAPIError), db.session() as session:
        write_then_fail(session)
    with db.snapshot() as session:
        assert (
            session.execute(text("SELECT value FROM sequence WHERE name = 'changes'")).scalar_one()
            == 0
        )


def write_then_fail(session: Session) -> None:
    session.execute(text("UPDATE sequence SET value = 7 WHERE name = 'changes'"))
    session.execute(text("SELECT 1 FROM no_such_table"))


def test_a_reader_does_not_wait_for_a_writer(db: Database) -> None:
    with db.session() as writer, db.snapshot() as reader:
        writer.execute(text("UPDATE sequence SET value = 7 WHERE name = 'changes'"))
        assert (
            reader.execute(text("SELECT value FROM sequence WHERE name = 'changes'")).scalar_one()
            == 0
        )


def test_a_committed_write_survives_kill_9(url: str) -> None:
    script = (
        "import sys, os, signal\n"
        "from serving.store.database import Database\n"
        "from serving.store.keys import Keys\n"
        "db = Database(sys.argv[1]); db.migrate(); Keys(db).ensure_tenant('kept')\n"
        "with db.session() as session:\n"
        "    session.connection().exec_driver_sql('DELETE FROM tenants')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, url], cwd=ROOT, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    survivor = Database(url)
    assert Keys(survivor).tenants() == ("kept",)
    survivor.close()


def test_errors_show_no_values(db: Database) -> None:
    with pytest.raises(Exception, match="no_such_table") as caught, db.session() as session:
        session.execute(text("SELECT :secret FROM no_such_table"), {"secret": "the text"})
    assert "the text" not in str(caught.value)

"""Ingest jobs, file batches, index snapshots, stored responses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("files", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    _widen_vector_stores()
    _widen_vector_store_files()
    op.create_table(
        "file_batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["store"], ["vector_stores.id"], name=op.f("fk_file_batches_store")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_batches")),
    )
    op.create_index(op.f("ix_file_batches_store"), "file_batches", ["store"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "responses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
    )
    op.create_index(
        op.f("ix_responses_tenant_created_at"),
        "responses",
        ["tenant", "created_at"],
        unique=False,
    )
    op.create_index(op.f("ix_responses_previous"), "responses", ["previous"], unique=False)
    op.execute("INSERT INTO sequence (name, value) VALUES ('deletions', 0)")


def _widen_vector_stores() -> None:
    with op.batch_alter_table("vector_stores") as table:
        table.add_column(sa.Column("description", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("ranking", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("split", sa.Boolean(), nullable=False, server_default="0"))
        table.add_column(sa.Column("expires_after_days", sa.BigInteger(), nullable=True))
        table.add_column(
            sa.Column("last_active_at", sa.BigInteger(), nullable=False, server_default="0")
        )
        table.add_column(sa.Column("expired_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE vector_stores SET last_active_at = created_at")


def _widen_vector_store_files() -> None:
    with op.batch_alter_table("vector_store_files") as table:
        table.add_column(sa.Column("error_code", sa.Text(), nullable=True))
        table.add_column(sa.Column("chunking", sa.JSON(), nullable=True))
        table.add_column(sa.Column("batch", sa.Text(), nullable=True))
        table.add_column(sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("claimed_until", sa.Double(), nullable=True))
    op.create_index(
        op.f("ix_vector_store_files_batch"), "vector_store_files", ["batch"], unique=False
    )
    op.create_index(
        op.f("ix_vector_store_files_status_seq"),
        "vector_store_files",
        ["status", "seq"],
        unique=False,
    )

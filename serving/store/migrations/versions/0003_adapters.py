"""Adapter versions and where they reside, fine-tuning jobs, feedback; chunks apart from what they
say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _part_chunks()
    op.create_table(
        "adapter_residency",
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("leases", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("load_ms", sa.Double(), nullable=True),
        sa.Column("reported_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("replica", "adapter", name=op.f("pk_adapter_residency")),
    )
    op.create_index(
        op.f("ix_adapter_residency_reported_at"), "adapter_residency", ["reported_at"], unique=False
    )
    op.create_table(
        "adapters",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("promotion", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("base_fingerprint", sa.Text(), nullable=True),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("job", sa.Text(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_adapters_tenant")),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_adapters")),
    )
    op.create_index(op.f("ix_adapters_model"), "adapters", ["model"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("rating", sa.BigInteger(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("better_answer", sa.Text(), nullable=True),
        sa.Column("messages", sa.JSON(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("assistant", sa.Text(), nullable=True),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_feedback_tenant")),
        sa.PrimaryKeyConstraint("tenant", "response", name=op.f("pk_feedback")),
    )
    op.create_index(
        op.f("ix_feedback_tenant_created_at"), "feedback", ["tenant", "created_at"], unique=False
    )
    op.create_table(
        "fine_tuning_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.Double(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant"], ["tenants.id"], name=op.f("fk_fine_tuning_jobs_tenant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fine_tuning_jobs")),
    )
    op.create_index(
        op.f("ix_fine_tuning_jobs_status_created_at"),
        "fine_tuning_jobs",
        ["status", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_fine_tuning_jobs_tenant_created_at"),
        "fine_tuning_jobs",
        ["tenant", "created_at"],
        unique=False,
    )
    op.create_table(
        "fine_tuning_checkpoints",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["fine_tuning_jobs.id"], name=op.f("fk_fine_tuning_checkpoints_job")
        ),
        sa.PrimaryKeyConstraint("job", "step", name=op.f("pk_fine_tuning_checkpoints")),
        sa.UniqueConstraint("id", name=op.f("uq_fine_tuning_checkpoints_id")),
    )
    op.create_table(
        "fine_tuning_events",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["fine_tuning_jobs.id"], name=op.f("fk_fine_tuning_events_job")
        ),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_fine_tuning_events")),
        sa.UniqueConstraint("id", name=op.f("uq_fine_tuning_events_id")),
    )


CONTENT = ("text", "title", "heading_path", "start", "end", "embedding")


def _part_chunks() -> None:
    """Every chunk that is there becomes a draft of its own."""
    op.create_table(
        "chunk_contents",
        sa.Column("draft", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("heading_path", sa.JSON(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("draft", "number", name=op.f("pk_chunk_contents")),
    )
    op.create_table(
        "drafts",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drafts")),
    )
    columns = ", ".join(f'"{name}"' for name in CONTENT)
    op.execute(
        f"INSERT INTO chunk_contents (draft, number, {columns}) "
        f"SELECT seq, 0, {columns} FROM chunks WHERE deleted_seq IS NULL"
    )
    with op.batch_alter_table("chunks") as table:
        table.add_column(sa.Column("draft", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("number", sa.BigInteger(), nullable=False, server_default="0"))
        for name in CONTENT:
            table.drop_column(name)
    op.execute("UPDATE chunks SET draft = seq")
    with op.batch_alter_table("vector_store_files") as table:
        table.add_column(sa.Column("claims", sa.BigInteger(), nullable=False, server_default="0"))

"""Chunks apart from what they say; every chunk that is there becomes a draft of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

CONTENT = ("text", "title", "heading_path", "start", "end", "embedding")


def upgrade() -> None:
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

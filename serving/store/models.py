"""The SQL schema, in one piece.

Rows that an index is derived from carry `seq`, the place of their last change in one sequence
shared by all; see `sequence.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[Any]: JSON,
        int: BigInteger,
        bytes: LargeBinary,
        str: Text,
    }


class SequenceRow(Base):
    """The last number given out (`changes`), and the last that deleted a chunk (`deletions`)."""

    __tablename__ = "sequence"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class TenantRow(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[int]


class ApiKeyRow(Base):
    """`token_sha256` is all that is kept of the token; people tell keys apart by `prefix`."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    token_sha256: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class AssistantRow(Base):
    """`body` holds the fields of `types.Assistant`."""

    __tablename__ = "assistants"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]
    updated_at: Mapped[int]


class FileRow(Base):
    __tablename__ = "files"
    __table_args__ = (Index(None, "tenant", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    filename: Mapped[str]
    bytes: Mapped[int]
    purpose: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[int]
    expires_at: Mapped[int | None]


class VectorStoreRow(Base):
    """Kept when deleted, so that followers see it go. `embedder` is set by the first file.

    `ranking`: the store's own weights of fusion. `expires_after_days` counts from
    `last_active_at`; `expired_at` is when the store was emptied for good. `split`: its files are
    spread over all shards, not kept on one.
    """

    __tablename__ = "vector_stores"
    __table_args__ = (Index(None, "tenant", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(index=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    description: Mapped[str]
    details: Mapped[dict[str, Any]]  # OpenAI's `metadata`, a name SQLAlchemy keeps for itself
    embedder: Mapped[str | None]
    ranking: Mapped[dict[str, Any]]
    split: Mapped[bool]
    expires_after_days: Mapped[int | None]
    last_active_at: Mapped[int]
    expired_at: Mapped[int | None]
    created_at: Mapped[int]
    deleted_at: Mapped[int | None]


class VectorStoreFileRow(Base):
    """A file in a store. `replaces`: once ready, it takes the place of others of its filename.

    An ingest worker that takes a file up writes `claimed_until`, and counts `attempts` first: a
    file that kills its worker every time fails in the end. `claims` counts all that ever were, so
    that each has a number of its own.
    """

    __tablename__ = "vector_store_files"
    __table_args__ = (Index(None, "status", "seq"),)
    store: Mapped[str] = mapped_column(ForeignKey("vector_stores.id"), primary_key=True)
    file: Mapped[str] = mapped_column(ForeignKey("files.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(index=True)
    tenant: Mapped[str]
    filename: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int]
    status: Mapped[str]
    last_error: Mapped[str | None]
    chunks: Mapped[int]
    attributes: Mapped[dict[str, Any]]
    replaces: Mapped[bool]
    created_at: Mapped[int]
    error_code: Mapped[str | None]
    chunking: Mapped[dict[str, Any] | None]  # OpenAI's `chunking_strategy`, as it was given
    batch: Mapped[str | None] = mapped_column(index=True)
    attempts: Mapped[int]
    claims: Mapped[int]
    claimed_until: Mapped[float | None]


class FileBatchRow(Base):
    """Files attached together; they name it in `batch`."""

    __tablename__ = "file_batches"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    store: Mapped[str] = mapped_column(ForeignKey("vector_stores.id"), index=True)
    created_at: Mapped[int]
    cancelled_at: Mapped[int | None]


class SnapshotRow(Base):
    """A retriever's indexes as they were at `seq`; the manifest's object names all others."""

    __tablename__ = "snapshots"
    id: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[str]  # "0/1": the first of one
    seq: Mapped[int]
    embedder: Mapped[str]
    manifest: Mapped[str]  # sha256
    bytes: Mapped[int]
    created_at: Mapped[int]


class ResponseRow(Base):
    """A stored answer of `/v1/responses`: what came in, what went out."""

    __tablename__ = "responses"
    __table_args__ = (Index(None, "tenant", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    previous: Mapped[str | None] = mapped_column(index=True)
    input: Mapped[list[Any]]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[int]


class ChunkRow(Base):
    """The place of a piece of a file in the sequence; `deleted_seq` says when it was deleted."""

    __tablename__ = "chunks"
    __table_args__ = (Index(None, "store", "file"),)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    deleted_seq: Mapped[int | None] = mapped_column(index=True)
    id: Mapped[str]
    tenant: Mapped[str]
    store: Mapped[str]
    file: Mapped[str]
    draft: Mapped[int]
    number: Mapped[int]


class ChunkContentRow(Base):
    """What a chunk says: written before the chunk has a place, gone when it is deleted."""

    __tablename__ = "chunk_contents"
    draft: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]
    title: Mapped[str]
    heading_path: Mapped[list[str]]
    start: Mapped[int]
    end: Mapped[int]
    embedding: Mapped[bytes]  # float32, little-endian


class DraftRow(Base):
    """Contents that have no chunks yet, and the claim under which they are being written."""

    __tablename__ = "drafts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    store: Mapped[str]
    file: Mapped[str]
    claim: Mapped[int]


class RequestRow(Base):
    """One answered request: the decision with its evidence, and what it used."""

    __tablename__ = "requests"
    __table_args__ = (Index(None, "tenant", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    key_id: Mapped[str]
    assistant: Mapped[str]
    model: Mapped[str]
    mode: Mapped[str]
    adapter: Mapped[str | None]
    stores: Mapped[list[str]]
    reason: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    status: Mapped[str]
    error_code: Mapped[str | None]
    timings_ms: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class AdapterRow(Base):
    """One immutable version of a tenant's adapter; a deleted one stays as a row, so that its
    number is never given again.

    `manifest` names the object of each of its files. `model` is the name a fine-tuning job gave
    it (`ft:…`). `pinned`: every replica loads it before it is ready. `promotion` counts the
    promotions of a name up: a rollback goes to the version with the number before.
    """

    __tablename__ = "adapters"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str | None] = mapped_column(index=True)
    state: Mapped[str]
    pinned: Mapped[bool]
    promotion: Mapped[int | None]
    sha256: Mapped[str]  # of the weights
    manifest: Mapped[dict[str, Any]]
    bytes: Mapped[int]
    base_model: Mapped[str]
    base_fingerprint: Mapped[str | None]
    rank: Mapped[int]
    alpha: Mapped[float]
    target_modules: Mapped[list[str]]
    job: Mapped[str | None]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[int]
    changed_at: Mapped[int]  # when it came into its state


class ResidencyRow(Base):
    """What one gateway replica last said of one adapter in its engine."""

    __tablename__ = "adapter_residency"
    replica: Mapped[str] = mapped_column(primary_key=True)
    adapter: Mapped[str] = mapped_column(primary_key=True)  # tenant/name@version
    state: Mapped[str]
    leases: Mapped[int]
    hits: Mapped[int]
    load_ms: Mapped[float | None]
    reported_at: Mapped[float] = mapped_column(index=True)


class FineTuningJobRow(Base):
    """A job as OpenAI's API shows it (`body`), and how far it is.

    A worker that takes it up writes `claimed_until` and counts `attempts`. `wanted` is what the
    user asked of a running job: `paused`, `cancelled` or nothing.
    """

    __tablename__ = "fine_tuning_jobs"
    __table_args__ = (Index(None, "tenant", "created_at"), Index(None, "status", "created_at"))
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    status: Mapped[str]
    wanted: Mapped[str | None]
    body: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    claimed_by: Mapped[str | None]
    claimed_until: Mapped[float | None]
    created_at: Mapped[int]
    finished_at: Mapped[int | None]


class FineTuningEventRow(Base):
    """One line of what a job says of itself; `number` counts up within the job."""

    __tablename__ = "fine_tuning_events"
    job: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[int]


class FineTuningCheckpointRow(Base):
    """Where a job can go on from. `state` is the object with adapter, optimizer and position;
    `adapter` the version that was registered from it, if one was."""

    __tablename__ = "fine_tuning_checkpoints"
    job: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str | None]  # sha256
    adapter: Mapped[str | None]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[int]


class FeedbackRow(Base):
    """What a user thought of one answer, with the conversation where it is known."""

    __tablename__ = "feedback"
    __table_args__ = (Index(None, "tenant", "created_at"),)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    response: Mapped[str] = mapped_column(primary_key=True)
    rating: Mapped[int]  # 1 or -1
    comment: Mapped[str | None]
    better_answer: Mapped[str | None]
    messages: Mapped[list[Any] | None] = mapped_column(JSON)
    answer: Mapped[str | None]
    assistant: Mapped[str | None]
    adapter: Mapped[str | None]
    mode: Mapped[str | None]
    created_at: Mapped[int]

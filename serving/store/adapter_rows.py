"""The rows of adapter versions: how they are found, and how they become `AdapterVersion`s."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from serving.errors import Conflict, UnknownModel
from serving.store.models import AdapterRow, AssistantRow
from serving.types import AdapterId, AdapterVersion, StoredFile, TenantId, VersionState

IDENTITY = ("adapter_config.json", "adapter_model.safetensors")  # the same: the same adapter
LIVES = AdapterRow.state != VersionState.DELETED


def named(tenant: TenantId, name: str) -> tuple[Any, ...]:
    return AdapterRow.tenant == tenant, AdapterRow.name == name


def of(tenant: TenantId, name: str | None = None) -> Select[AdapterRow]:
    query = select(AdapterRow).where(AdapterRow.tenant == tenant, LIVES)
    return query if name is None else query.where(AdapterRow.name == name)


def promoted(tenant: TenantId, name: str) -> Select[AdapterRow]:
    return of(tenant, name).where(AdapterRow.state == VersionState.PROMOTED)


def current(tenant: TenantId, name: str) -> Select[AdapterRow]:
    """What the bare name means: the promoted version, else the newest staged one."""
    states = (VersionState.PROMOTED, VersionState.STAGED)
    query = of(tenant, name).where(AdapterRow.state.in_(states))
    return query.order_by(
        AdapterRow.state != VersionState.PROMOTED, AdapterRow.version.desc()
    ).limit(1)


def previous(session: Session, tenant: TenantId, name: str) -> AdapterRow | None:
    earlier = of(tenant, name).where(
        AdapterRow.state == VersionState.STAGED, AdapterRow.promotion.is_not(None)
    )
    return session.scalar(earlier.order_by(AdapterRow.promotion.desc()).limit(1))


def live(session: Session, tenant: TenantId, name: str, version: int) -> AdapterRow:
    row = session.get(AdapterRow, (tenant, name, version))
    if row is None or row.state == VersionState.DELETED:
        raise UnknownModel(f"adapter '{name}@{version}' does not exist", param="adapter")
    return row


def numbered(session: Session, draft: AdapterVersion) -> AdapterRow | None:
    return session.get(AdapterRow, (draft.tenant, draft.name, draft.version))


def twin(session: Session, draft: AdapterVersion) -> AdapterRow | None:
    """The newest version of the name with the same weights and configuration and no other
    `model`."""
    query = of(draft.tenant, draft.name).where(AdapterRow.sha256 == draft.sha256)
    wanted = manifest(draft)
    for row in session.scalars(query.order_by(AdapterRow.version.desc())):
        is_same = all(row.manifest.get(name) == wanted.get(name) for name in IDENTITY)
        if is_same and draft.model in (None, row.model):
            return row
    return None


def newest(session: Session, draft: AdapterVersion) -> int:
    most = select(func.max(AdapterRow.version)).where(*named(draft.tenant, draft.name))
    return session.scalar(most) or 0


def needed(session: Session) -> set[str]:
    manifests = session.scalars(select(AdapterRow.manifest).where(LIVES))
    return {file["sha256"] for manifest in manifests for file in manifest.values()}


def check_unused(session: Session, row: AdapterRow) -> None:
    """Raises Conflict if an assistant names the version, or follows the name to it."""
    wanted = {str(id_of(row))}
    if session.scalar(current(TenantId(row.tenant), row.name)) is row:
        wanted.add(row.name)
    query = select(AssistantRow).where(AssistantRow.tenant == row.tenant)
    for assistant in session.scalars(query.order_by(AssistantRow.name)):
        used = {assistant.body.get("adapter"), *(assistant.body.get("rollout") or ())}
        if not used.isdisjoint(wanted):
            raise Conflict(
                f"adapter '{id_of(row)}' is used by the assistant '{assistant.name}': "
                "take it out there first",
                param="adapter",
            )


def id_of(row: AdapterRow) -> AdapterId:
    return AdapterId(f"{row.name}@{row.version}")


def manifest(draft: AdapterVersion) -> dict[str, Any]:
    return {name: asdict(file) for name, file in sorted(draft.manifest.items())}


def row(draft: AdapterVersion, number: int) -> AdapterRow:
    return AdapterRow(
        tenant=draft.tenant,
        name=draft.name,
        version=number,
        model=draft.model,
        state=draft.state,
        pinned=draft.pinned,
        promotion=None,
        sha256=draft.sha256,
        manifest=manifest(draft),
        bytes=draft.bytes,
        base_model=draft.base_model,
        base_fingerprint=draft.base_fingerprint,
        rank=draft.rank,
        alpha=draft.alpha,
        target_modules=list(draft.target_modules),
        job=draft.job,
        metrics=dict(draft.metrics),
        created_at=draft.created_at,
        changed_at=draft.changed_at,
    )


def version(row: AdapterRow) -> AdapterVersion:
    return AdapterVersion(
        tenant=TenantId(row.tenant),
        name=row.name,
        version=row.version,
        state=VersionState(row.state),
        sha256=row.sha256,
        manifest={name: StoredFile(**file) for name, file in row.manifest.items()},
        base_model=row.base_model,
        rank=row.rank,
        alpha=row.alpha,
        target_modules=tuple(row.target_modules),
        created_at=row.created_at,
        changed_at=row.changed_at,
        base_fingerprint=row.base_fingerprint,
        pinned=row.pinned,
        model=row.model,
        job=row.job,
        metrics=row.metrics,
    )

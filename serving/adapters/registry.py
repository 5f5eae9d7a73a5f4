"""All tenants' adapters: published once, immutable from then on, found by any of their names.

SQL and the object store are the truth; the files an engine loads are copies on local disk. Objects
are written first and the row last, so that whatever fails leaves nothing half-registered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from serving.adapters.acceptance import Acceptance, Draft
from serving.adapters.adapter import Adapter, parse_id
from serving.adapters.cache import DiskCache, entry_of
from serving.adapters.card import SAMPLES, parse_samples
from serving.adapters.folders import Folders
from serving.adapters.once import Once
from serving.adapters.tensors import Incomplete
from serving.errors import Conflict, InvalidRequest, ServingError, UnknownModel
from serving.store.adapters import AdapterVersions
from serving.store.cache import RecentlyRead
from serving.store.objects import ObjectStore
from serving.store.pages import FIRST, Page, Window
from serving.types import AdapterId, AdapterVersion, TenantId, VersionState

CACHE_S = 1.0
JOB_PREFIX = "ft:"  # of the names that fine-tuning jobs give
_Ref = tuple[TenantId, str]
_NOTHING: Mapping[str, Any] = {}


@dataclass
class Registry:
    """What is read is at most `CACHE_S` old; a change shows at once in the process that made it."""

    versions: AdapterVersions
    objects: ObjectStore
    cache: DiskCache
    folders: Folders
    acceptance: Acceptance
    monotonic: Callable[[], float] = time.monotonic
    _found: RecentlyRead[_Ref, AdapterVersion] = field(init=False)
    _ready: RecentlyRead[_Ref, Adapter] = field(init=False)
    _copying: Once[_Ref, Adapter] = field(init=False)

    def __post_init__(self) -> None:
        self._found = RecentlyRead(CACHE_S, self.monotonic)
        self._ready = RecentlyRead(CACHE_S, self.monotonic)
        self._copying = Once()

    # Publishing

    def publish(
        self,
        tenant: TenantId,
        name: str,
        folder: Path,
        *,
        model: str | None = None,
        job: str | None = None,
        metrics: Mapping[str, Any] = _NOTHING,
    ) -> AdapterVersion:
        """Takes in the adapter in `folder` as the next version of `name`.

        Weights and configuration that the name already has make no new version: it returns the
        one that is there. `folder` is left alone.

        Raises:
            InvalidRequest: the adapter cannot be served; the message says why and what to do.
            NotFound: there is no such tenant.
        """
        self.acceptance.check_name(name)
        self._import_new(tenant)  # whose numbers are taken
        with self.acceptance.copied(folder) as copy:
            try:
                draft = self.acceptance.draft(tenant, name, copy)
            except Incomplete as error:
                raise InvalidRequest(
                    f"{error.problem}: send the whole adapter", param="file"
                ) from None
            return self._added(draft.published_as(model, job, metrics))

    def _added(self, draft: Draft, *, numbered: bool = False) -> AdapterVersion:
        """Objects first, then the row; of the objects only those stay that a row needs."""

        def keep_objects() -> None:
            for path in draft.files.values():
                self.objects.put_file(path)

        try:
            keep_objects()
            version = self.versions.add(draft.version, keep_objects, numbered=numbered)
        finally:
            self._discard(draft.version)
        return self._changed(version)

    # Finding

    def find(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """The version behind `name` (the promoted, else the newest), `name@3` or `ft:…`.

        Raises:
            UnknownModel: there is none, or it is retired.
            AdapterNotReady, InvalidRequest, Conflict: somebody copied it into the tenant's folder,
                and it cannot be taken in.
        """
        known = self._found.get((tenant, ref))
        if known is None:
            mark = self._found.mark()
            known = self._read(tenant, ref)
            self._found.put((tenant, ref), known, mark)
        return known

    async def look_up(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """`find` without ever blocking the event loop on SQL."""
        known = self._found.get((tenant, ref))
        return await asyncio.to_thread(self.find, tenant, ref) if known is None else known

    def show(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """`find`, for operators: a retired version too, and as SQL has it now."""
        return self._any(tenant, ref)

    def list(self, tenant: TenantId) -> Sequence[AdapterVersion]:
        """All but the deleted, retired ones too, by name and version."""
        self._import_new(tenant)
        return self.versions.list(tenant)

    def page(
        self,
        tenant: TenantId,
        window: Window = FIRST,
        name: str | None = None,
        state: VersionState | None = None,
    ) -> Page[AdapterVersion]:
        self._import_new(tenant)
        return self.versions.page(tenant, window, name, state)

    # What an engine and the policy need

    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        """The adapter's files on this machine; its id is `tenant/name@version`.

        Raises:
            UnknownModel: the tenant has no such adapter, or it is retired.
            AdapterNotReady: it is still being copied, or its objects are damaged.
            InvalidRequest, Conflict: it cannot be served.
        """
        ready = self._ready.get((tenant, adapter))
        if ready is not None and ready.path.is_dir():
            return ready
        await self.look_up(tenant, adapter)  # it may be retired since a copy of it was begun
        work = partial(asyncio.to_thread, self._materialise, tenant, adapter)
        return await self._copying.get((tenant, adapter), work)

    async def samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]:
        """Prompts like those the adapter was trained on; none if it came without."""
        return await asyncio.to_thread(self._samples, tenant, adapter)

    # Its life

    def promote(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """Makes the bare name mean this version, on every replica within `CACHE_S`."""
        return self._changed(self.versions.promote(*self._key(tenant, ref)))

    def rollback(self, tenant: TenantId, name: str) -> AdapterVersion:
        """Makes the bare name mean what it meant before its last promotion."""
        return self._changed(self.versions.rollback(tenant, name))

    def retire(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """Ends new requests to the version; those that run finish."""
        return self._changed(self.versions.retire(*self._key(tenant, ref)))

    def delete(self, tenant: TenantId, ref: str) -> AdapterVersion:
        """Deletes the files of a retired version. Its number is never given again."""
        gone = self._changed(self.versions.delete(*self._key(tenant, ref)))
        self._discard(gone)
        self.cache.forget(entry_of(gone))
        return gone

    def pin(self, tenant: TenantId, ref: str, pinned: bool = True) -> AdapterVersion:
        """Says whether every replica loads the version before it is ready."""
        return self._changed(self.versions.pin(*self._key(tenant, ref), pinned))

    def sweep(self) -> int:
        """Deletes what crashes left: objects of no version, and half-written copies."""
        self.cache.sweep()
        return self.versions.discard(self.objects.stored(), self.objects.delete)

    # Inside

    def _read(self, tenant: TenantId, ref: str) -> AdapterVersion:
        found = self._any(tenant, ref)
        if found.state is VersionState.RETIRED:
            raise UnknownModel(
                f"adapter '{found.id}' is retired: promote it to serve it again", param="model"
            )
        return found

    def _any(self, tenant: TenantId, ref: str) -> AdapterVersion:
        if not ref.isprintable():  # PostgreSQL cannot even look for it
            raise UnknownModel("no adapter has such a name", param="model")
        if ref.startswith(JOB_PREFIX):
            found = self.versions.by_model(tenant, ref)
        elif "@" in ref:
            found = self._version(tenant, *_parsed(ref))
        else:
            found = self.versions.current(tenant, ref) or self._imported_by_name(tenant, ref)
        if found is None:
            raise UnknownModel(f"adapter '{ref}' does not exist", param="model")
        return found

    def _version(self, tenant: TenantId, name: str, number: int) -> AdapterVersion:
        """One version, from the tenant's folder if SQL has none."""
        found = self.versions.get(tenant, name, number)
        if found is None:
            found = self._import(tenant, AdapterId(f"{name}@{number}"))
        elif found.state is VersionState.DELETED:
            raise UnknownModel(f"adapter '{found.id}' was deleted", param="model")
        else:
            self._check_folder(found)
        return found

    def _materialise(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        mark = self._ready.mark()  # and not `find`: what is old would be kept as if it were new
        version = self._read(tenant, adapter)
        path = self.cache.get(entry_of(version), version.manifest)
        ready = Adapter(AdapterId(f"{tenant}/{version.id}"), path)
        self._ready.put((tenant, adapter), ready, mark)
        return ready

    def _samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]:
        file = self.find(tenant, adapter).manifest.get(SAMPLES)
        return () if file is None else parse_samples(self.objects.get(file.sha256).decode())

    def _import(self, tenant: TenantId, id: AdapterId) -> AdapterVersion:
        """Takes in what somebody copied into the tenant's folder, under its own number."""
        folder = self.folders.find(tenant, id)
        if folder is None:
            raise UnknownModel(f"adapter '{id}' does not exist", param="model")
        name, number = parse_id(id)
        with self.folders.taking_in(folder), self.acceptance.copied(folder) as copy:
            return self._added(self.acceptance.draft(tenant, name, copy, number), numbered=True)

    def _import_new(self, tenant: TenantId) -> None:
        """Takes in every folder that SQL does not know; why one is left out is logged once."""
        ids = list(self.folders.ids(tenant))
        known = self.versions.numbers(tenant) if ids else frozenset()
        for id in ids:
            if parse_id(id) not in known:
                try:
                    self._import(tenant, id)
                except ServingError as error:
                    self.folders.refuse(tenant, id, error.message)

    def _imported_by_name(self, tenant: TenantId, name: str) -> AdapterVersion | None:
        self._import_new(tenant)
        return self.versions.current(tenant, name)

    def _check_folder(self, version: AdapterVersion) -> None:
        """Raises Conflict if the folder it came from holds other weights by now."""
        folder = self.folders.find(version.tenant, version.id)
        now = self.folders.sha256(folder) if folder else None
        if now not in (None, version.sha256):
            newest = max(
                n for name, n in self.versions.numbers(version.tenant) if name == version.name
            )
            raise Conflict(
                f"the weights of adapter '{version.id}' changed; versions are immutable: "
                f"publish them as '{version.name}@{newest + 1}'"
            )

    def _key(self, tenant: TenantId, ref: str) -> tuple[TenantId, str, int]:
        """Of one version; a bare name is too little to change something by."""
        if "@" not in ref and not ref.startswith(JOB_PREFIX):
            raise InvalidRequest(f"say which version, as in '{ref}@1'", param="adapter")
        version = self._any(tenant, ref)
        return tenant, version.name, version.version

    def _discard(self, version: AdapterVersion) -> None:
        hashes = [file.sha256 for file in version.manifest.values()]
        self.versions.discard(hashes, self.objects.delete)

    def _changed(self, version: AdapterVersion) -> AdapterVersion:
        self._forget()
        return version

    def _forget(self) -> None:
        self._found.clear()
        self._ready.clear()


def _parsed(ref: str) -> tuple[str, int]:
    try:
        return parse_id(ref)
    except ValueError as error:
        raise UnknownModel(str(error), param="model") from None

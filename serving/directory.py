"""What a model name means to a caller: one of the tenant's assistants or adapters, or the base
model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from serving.adapters.registry import Registry
from serving.errors import InvalidRequest, UnknownModel
from serving.generation.engine import Adapter
from serving.types import AdapterId, Assistant, Caller, Mode, TenantId, VectorStoreId

MODES = ", ".join(Mode)
MAX_NAME_CHARS = 200


class AssistantStore(Protocol):
    async def find(self, tenant: TenantId, name: str) -> Assistant | None: ...

    def list(self, tenant: TenantId) -> Sequence[Assistant]: ...


class VectorStores(Protocol):
    def get(self, tenant: TenantId, store_id: VectorStoreId) -> object: ...


class TenantAdapters:
    """Every tenant's adapters, in a folder of its own: `<folder>/<tenant>/<name>@<version>/`.

    The engine knows an adapter as `tenant/name@version`, so that equal names never share weights.
    """

    def __init__(self, folder: Path, max_rank: int) -> None:
        self._folder = folder
        self._max_rank = max_rank
        self._registries: dict[TenantId, Registry] = {}

    def of(self, tenant: TenantId) -> Registry:
        if tenant not in self._registries:
            self._registries[tenant] = Registry(self._folder / tenant, self._max_rank)
        return self._registries[tenant]

    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        """The adapter's files, checked off the event loop since new weights are hashed.

        Raises:
            UnknownModel: the tenant has no such adapter.
            AdapterNotReady: it is still being copied.
            InvalidRequest, Conflict: it cannot be served.
        """
        found = await asyncio.to_thread(self.of(tenant).get, adapter)
        return Adapter(AdapterId(f"{tenant}/{adapter}"), found.path)

    async def samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]:
        """Prompts like those the adapter was trained on."""
        return await asyncio.to_thread(self.of(tenant).samples, adapter)

    async def list(self, tenant: TenantId) -> Sequence[AdapterId]:
        found = await asyncio.to_thread(self.of(tenant).list)
        return [adapter.id for adapter in found]


class Directory:
    def __init__(
        self,
        assistants: AssistantStore,
        adapters: TenantAdapters,
        vector_stores: VectorStores,
        base_model: str,
    ) -> None:
        self._vector_stores = vector_stores
        self._assistants = assistants
        self._adapters = adapters
        self._base_model = base_model

    async def resolve(self, caller: Caller, model: str) -> Assistant:
        """The assistant behind `name`, `name:mode`, the base model's name or `adapter@version`.

        Raises:
            UnknownModel: there is none of that name in this tenant.
            InvalidRequest: the mode suffix is none of the four.
        """
        if len(model) > MAX_NAME_CHARS:
            raise UnknownModel("no model has so long a name", param="model")
        if model == self._base_model:
            return Assistant(name=model, tenant=caller.tenant, fixed_mode=Mode.BASE)
        name, _, suffix = model.partition(":")
        found = await self._assistants.find(caller.tenant, name)
        if found is not None:
            return replace(found, fixed_mode=_mode(suffix)) if suffix else found
        if "@" in model:
            return await self._adapter(caller.tenant, AdapterId(model))
        raise UnknownModel(
            f"the model '{model}' does not exist; GET /v1/models lists those that do",
            param="model",
        )

    async def models(self, caller: Caller) -> list[str]:
        """Every name `resolve` takes, without mode suffixes."""
        assistants = await asyncio.to_thread(self._assistants.list, caller.tenant)
        adapters = await self._adapters.list(caller.tenant)
        return [*(a.name for a in assistants), self._base_model, *adapters]

    async def check(self, assistant: Assistant) -> None:
        """Raises NotFound, or what is wrong with the adapter, if a part it names is not there."""
        for store in assistant.vector_stores:
            await asyncio.to_thread(self._vector_stores.get, assistant.tenant, store)
        for adapter in (assistant.adapter, *assistant.rollout):
            if adapter is not None:
                await self._adapters.get(assistant.tenant, adapter)

    async def _adapter(self, tenant: TenantId, adapter: AdapterId) -> Assistant:
        await self._adapters.get(tenant, adapter)
        return Assistant(adapter, tenant, adapter=adapter, fixed_mode=Mode.FINE_TUNED)


def _mode(suffix: str) -> Mode | None:
    if suffix == "auto":
        return None
    try:
        return Mode(suffix)
    except ValueError:
        raise InvalidRequest(
            f"'{suffix}' is no mode; use one of {MODES} or auto", param="model"
        ) from None

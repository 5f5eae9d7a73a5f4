"""What a model name means to a caller: one of the tenant's assistants or adapters, or the base
model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from serving.adapters.registry import JOB_PREFIX
from serving.errors import InvalidRequest, UnknownModel
from serving.types import (
    AdapterId,
    AdapterVersion,
    Assistant,
    Caller,
    Mode,
    TenantId,
    VectorStoreId,
    VersionState,
)

MODES = ", ".join(Mode)
MAX_NAME_CHARS = 200


class AssistantStore(Protocol):
    async def find(self, tenant: TenantId, name: str) -> Assistant | None: ...

    def list(self, tenant: TenantId) -> Sequence[Assistant]: ...


class VectorStores(Protocol):
    def get(self, tenant: TenantId, store_id: VectorStoreId) -> object: ...


class Adapters(Protocol):
    """The registry, as far as names are concerned."""

    async def look_up(self, tenant: TenantId, ref: str) -> AdapterVersion: ...

    def list(self, tenant: TenantId) -> Sequence[AdapterVersion]: ...


class Directory:
    def __init__(
        self,
        assistants: AssistantStore,
        adapters: Adapters,
        vector_stores: VectorStores,
        base_model: str,
    ) -> None:
        self._vector_stores = vector_stores
        self._assistants = assistants
        self._adapters = adapters
        self._base_model = base_model

    async def resolve(self, caller: Caller, model: str) -> Assistant:
        """The assistant behind `name`, `name:mode`, the base model's name, `adapter@version`,
        `ft:…` or the name of a promoted adapter.

        An assistant that follows an adapter's name has the version that it means now.

        Raises:
            UnknownModel: there is none of that name in this tenant.
            InvalidRequest: the mode suffix is none of the four.
        """
        if len(model) > MAX_NAME_CHARS or "\0" in model:  # which PostgreSQL cannot look for
            raise UnknownModel("no model has such a name", param="model")
        if model == self._base_model:
            return Assistant(name=model, tenant=caller.tenant, fixed_mode=Mode.BASE)
        if model.startswith(JOB_PREFIX):
            return await self._adapter(caller.tenant, model)
        name, _, suffix = model.partition(":")
        found = await self._assistants.find(caller.tenant, name)
        if found is not None:
            found = await self._followed(found)
            return replace(found, fixed_mode=_mode(suffix)) if suffix else found
        return await self._adapter(caller.tenant, model)

    async def models(self, caller: Caller) -> list[str]:
        """Every name `resolve` takes, without mode suffixes."""
        assistants = await asyncio.to_thread(self._assistants.list, caller.tenant)
        adapters = await asyncio.to_thread(self._adapters.list, caller.tenant)
        names = [*(a.name for a in assistants), self._base_model, *_names(adapters)]
        return list(dict.fromkeys(names))

    async def check(self, assistant: Assistant) -> None:
        """Raises if a part that the assistant names is not there or cannot be used."""
        for store in assistant.vector_stores:
            await asyncio.to_thread(self._vector_stores.get, assistant.tenant, store)
        for adapter in (assistant.adapter, *assistant.rollout):
            if adapter is not None:
                await self._adapters.look_up(assistant.tenant, adapter)

    async def _followed(self, assistant: Assistant) -> Assistant:
        """With the versions that bare names mean; an unknown one shows when it is needed."""
        named = [assistant.adapter, *assistant.rollout]
        bare = [name for name in named if name is not None and _is_bare(name)]
        if not bare:
            return assistant
        exact = {name: await self._exact(assistant.tenant, name) for name in bare}
        shares: dict[AdapterId, float] = {}
        for name, share in assistant.rollout.items():
            version = exact.get(name, name)
            shares[version] = shares.get(version, 0.0) + share
        adapter = assistant.adapter
        return replace(
            assistant, adapter=exact.get(adapter, adapter) if adapter else None, rollout=shares
        )

    async def _exact(self, tenant: TenantId, name: AdapterId) -> AdapterId:
        try:
            return (await self._adapters.look_up(tenant, name)).id
        except UnknownModel:
            return name

    async def _adapter(self, tenant: TenantId, model: str) -> Assistant:
        """One adapter alone. A bare name must have been promoted: what is staged is asked for by
        its number."""
        try:
            version = await self._adapters.look_up(tenant, model)
        except UnknownModel as error:
            raise (
                error if "@" in model or model.startswith(JOB_PREFIX) else _unknown(model)
            ) from None
        if _is_bare(model) and version.state is not VersionState.PROMOTED:
            raise UnknownModel(
                f"no version of adapter '{model}' is promoted; ask for '{version.id}'",
                param="model",
            )
        return Assistant(model, tenant, adapter=version.id, fixed_mode=Mode.FINE_TUNED)


def _is_bare(adapter: str) -> bool:
    return "@" not in adapter and not adapter.startswith(JOB_PREFIX)


def _names(adapters: Sequence[AdapterVersion]) -> Iterator[str]:
    """Everything that adapters can be asked for by."""
    for version in adapters:
        if version.state is VersionState.RETIRED:
            continue
        if version.state is VersionState.PROMOTED:
            yield version.name
        yield version.id
        if version.model is not None:
            yield version.model


def _unknown(model: str) -> UnknownModel:
    return UnknownModel(
        f"the model '{model}' does not exist; GET /v1/models lists those that do", param="model"
    )


def _mode(suffix: str) -> Mode | None:
    if suffix == "auto":
        return None
    try:
        return Mode(suffix)
    except ValueError:
        raise InvalidRequest(
            f"'{suffix}' is no mode; use one of {MODES} or auto", param="model"
        ) from None

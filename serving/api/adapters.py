"""`/admin/adapters`: a tenant's adapters, from upload to deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.adapters.registry import Registry
from serving.admission import Admission
from serving.api.adapter_uploads import read_adapter
from serving.api.listing import json_response, listing, window
from serving.api.request import caller_of
from serving.errors import InvalidRequest
from serving.store.residency import Report, Residencies
from serving.types import AdapterVersion, VersionState

ONE = "/admin/adapters/{adapter}"
LISTED = (VersionState.STAGED, VersionState.PROMOTED, VersionState.RETIRED)


class AdaptersApi:
    """`{adapter}` is `name@version` or `ft:…`; a bare name is what it means now."""

    def __init__(self, registry: Registry, residencies: Residencies, admission: Admission) -> None:
        self._registry = registry
        self._residencies = residencies
        self._admission = admission

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/admin/adapters", self.add, methods=["POST"])
        app.add_api_route("/admin/adapters", self.list, methods=["GET"])
        app.add_api_route(ONE, self.show, methods=["GET"])
        app.add_api_route(ONE, self.delete, methods=["DELETE"])
        app.add_api_route(f"{ONE}/promote", self.promote, methods=["POST"])
        app.add_api_route("/admin/adapters/{name}/rollback", self.rollback, methods=["POST"])
        app.add_api_route(f"{ONE}/retire", self.retire, methods=["POST"])
        app.add_api_route(f"{ONE}/pin", self.pin, methods=["POST"])
        app.add_api_route(f"{ONE}/pin", self.unpin, methods=["DELETE"])

    async def add(self, request: Request) -> Response:
        """Takes in a new version, or finds the one with the same weights and configuration."""
        caller = caller_of(request)
        async with (
            self._admission.admit(caller),
            read_adapter(request, self._registry.acceptance) as upload,
        ):
            version = await run_in_threadpool(
                self._registry.publish, caller.tenant, upload.name, upload.folder
            )
        if upload.promote:
            version = await run_in_threadpool(self._registry.promote, caller.tenant, version.id)
        return json_response(adapter_body(version))

    async def list(self, request: Request) -> Response:
        wanted = window(request, "name", "state")
        name, state = request.query_params.get("name"), request.query_params.get("state")
        if state is not None and state not in LISTED:
            raise InvalidRequest(f"'state' must be one of {', '.join(LISTED)}", param="state")
        tenant = caller_of(request).tenant
        found = await run_in_threadpool(
            self._registry.page,
            tenant,
            wanted,
            name,
            VersionState(state) if state else None,
        )
        reports = await run_in_threadpool(self._residencies.of, tenant)
        return listing(found, lambda version: resident_body(version, reports))

    async def show(self, request: Request, adapter: str) -> Response:
        tenant = caller_of(request).tenant
        version = await run_in_threadpool(self._registry.show, tenant, adapter)
        reports = await run_in_threadpool(self._residencies.of, tenant)
        return json_response(resident_body(version, reports))

    async def promote(self, request: Request, adapter: str) -> Response:
        tenant = caller_of(request).tenant
        return json_response(
            adapter_body(await run_in_threadpool(self._registry.promote, tenant, adapter))
        )

    async def rollback(self, request: Request, name: str) -> Response:
        tenant = caller_of(request).tenant
        return json_response(
            adapter_body(await run_in_threadpool(self._registry.rollback, tenant, name))
        )

    async def retire(self, request: Request, adapter: str) -> Response:
        tenant = caller_of(request).tenant
        return json_response(
            adapter_body(await run_in_threadpool(self._registry.retire, tenant, adapter))
        )

    async def delete(self, request: Request, adapter: str) -> Response:
        tenant = caller_of(request).tenant
        gone = await run_in_threadpool(self._registry.delete, tenant, adapter)
        return json_response({"id": gone.id, "object": "adapter.deleted", "deleted": True})

    async def pin(self, request: Request, adapter: str) -> Response:
        return await self._pinned(request, adapter, True)

    async def unpin(self, request: Request, adapter: str) -> Response:
        return await self._pinned(request, adapter, False)

    async def _pinned(self, request: Request, adapter: str, pinned: bool) -> Response:
        tenant = caller_of(request).tenant
        return json_response(
            adapter_body(await run_in_threadpool(self._registry.pin, tenant, adapter, pinned))
        )


def resident_body(version: AdapterVersion, reports: Sequence[Report]) -> dict[str, Any]:
    """With the replicas that hold the version, as they said last."""
    own = f"{version.tenant}/{version.id}"
    replicas = [asdict(report) for report in reports if report.adapter == own]
    for replica in replicas:
        del replica["adapter"]
    return {**adapter_body(version), "replicas": replicas}


def adapter_body(version: AdapterVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "object": "adapter",
        "name": version.name,
        "version": version.version,
        "model": version.model,
        "state": version.state,
        "pinned": version.pinned,
        "sha256": version.sha256,
        "bytes": version.bytes,
        "base_model": version.base_model,
        "base_fingerprint": version.base_fingerprint,
        "rank": version.rank,
        "alpha": version.alpha,
        "target_modules": list(version.target_modules),
        "training_job": version.job,
        "metrics": dict(version.metrics),
        "files": {name: file.sha256 for name, file in version.manifest.items()},
        "created_at": version.created_at,
        "changed_at": version.changed_at,
    }

"""`/admin/residency`: which replica holds which of the tenant's adapters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from serving.api.request import caller_of
from serving.store.residency import Report, Residencies
from serving.types import TenantId


class ResidencyApi:
    def __init__(self, residencies: Residencies) -> None:
        self._residencies = residencies

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/admin/residency", self.list, methods=["GET"])

    async def list(self, request: Request) -> dict[str, Any]:
        """As the replicas last said it, a few seconds ago at most."""
        tenant = caller_of(request).tenant
        found = await run_in_threadpool(self._residencies.of, tenant)
        return {"object": "list", "data": [_body(tenant, report) for report in found]}


def _body(tenant: TenantId, report: Report) -> dict[str, Any]:
    return asdict(report) | {"adapter": report.adapter.removeprefix(f"{tenant}/")}

"""`/v1/fine_tuning/jobs`: models of one's own, trained on uploaded examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import MAX_PAIRS, read_body
from serving.api.fine_tuning_bodies import CreateJob
from serving.api.listing import json_response, listing, window
from serving.api.request import caller_of
from serving.errors import InvalidRequest
from serving.finetune.job import shown_status
from serving.finetune.jobs import Jobs
from serving.store.fine_tuning import Checkpoint, Event, Job
from serving.types import TenantId

JOBS = "/v1/fine_tuning/jobs"
JOB = JOBS + "/{job_id}"
_PAIR = re.compile(r'metadata\[([^\]"\\]{1,64})\]')

Ask = Callable[[TenantId, str], Job]


class FineTuningApi:
    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(JOBS, self.create, methods=["POST"])
        app.add_api_route(JOBS, self.list, methods=["GET"])
        app.add_api_route(JOB, self.get, methods=["GET"])
        app.add_api_route(JOB + "/cancel", self.cancel, methods=["POST"])
        app.add_api_route(JOB + "/pause", self.pause, methods=["POST"])
        app.add_api_route(JOB + "/resume", self.resume, methods=["POST"])
        app.add_api_route(JOB + "/events", self.events, methods=["GET"])
        app.add_api_route(JOB + "/checkpoints", self.checkpoints, methods=["GET"])

    async def create(self, request: Request) -> Response:
        body = await read_body(request, self._max_body_bytes, CreateJob)
        tenant = caller_of(request).tenant
        return _answer(await run_in_threadpool(self._jobs.create, tenant, body.new))

    async def list(self, request: Request) -> Response:
        metadata, without = metadata_filter(request)
        wanted = window(request, *(k for k in request.query_params if k.startswith("metadata")))
        tenant = caller_of(request).tenant
        page = await run_in_threadpool(self._jobs.store.list, tenant, wanted, metadata, without)
        return listing(page, job_body)

    async def get(self, request: Request, job_id: str) -> Response:
        tenant = caller_of(request).tenant
        return _answer(await run_in_threadpool(self._jobs.store.get, tenant, job_id))

    async def cancel(self, request: Request, job_id: str) -> Response:
        return await self._ask(self._jobs.cancel, request, job_id)

    async def pause(self, request: Request, job_id: str) -> Response:
        return await self._ask(self._jobs.pause, request, job_id)

    async def resume(self, request: Request, job_id: str) -> Response:
        return await self._ask(self._jobs.resume, request, job_id)

    async def events(self, request: Request, job_id: str) -> Response:
        tenant, wanted = caller_of(request).tenant, window(request)
        page = await run_in_threadpool(self._jobs.store.events, tenant, job_id, wanted)
        return listing(page, event_body)

    async def checkpoints(self, request: Request, job_id: str) -> Response:
        tenant, wanted = caller_of(request).tenant, window(request, default=10)
        page = await run_in_threadpool(self._jobs.store.checkpoints, tenant, job_id, wanted)
        return listing(page, lambda checkpoint: checkpoint_body(checkpoint, job_id))

    async def _ask(self, ask: Ask, request: Request, job_id: str) -> Response:
        return _answer(await run_in_threadpool(ask, caller_of(request).tenant, job_id))


def metadata_filter(request: Request) -> tuple[dict[str, str], bool]:
    """The pairs of `metadata[key]=value`, and whether jobs without metadata are wanted.

    Raises:
        InvalidRequest: names the parameter that is malformed.
    """
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name == "metadata" or not name.startswith("metadata"):
            continue
        found = _PAIR.fullmatch(name)
        if found is None or len(pairs) >= MAX_PAIRS:
            raise InvalidRequest(f"'{name[:80]}' must be metadata[key]", param="metadata")
        pairs[found[1]] = value
    whole = request.query_params.get("metadata")
    if whole not in (None, "null") or (whole and pairs):
        raise InvalidRequest(
            "'metadata' is either null, or given as metadata[key]=value", param="metadata"
        )
    return pairs, whole == "null"


def _answer(job: Job) -> Response:
    return json_response(job_body(job))


def job_body(job: Job) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "status": shown_status(job),
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        **job.body,
    }


def event_body(event: Event) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.note.level,
        "message": event.note.message,
        "type": event.note.type,
        "data": dict(event.note.data),
    }


def checkpoint_body(checkpoint: Checkpoint, job_id: str) -> dict[str, Any]:
    """`fine_tuned_model_checkpoint` can be asked for as a model."""
    metrics = dict(checkpoint.metrics)
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.id,
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": metrics.pop("model", checkpoint.adapter),
        "fine_tuning_job_id": job_id,
        "metrics": metrics,
        "step_number": checkpoint.step,
    }

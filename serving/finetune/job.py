"""A fine-tuning job's states and the changes that lead from one to another: pure functions, which
the store applies to a job while it holds its row.

A worker's claim is a name that nobody else has, and it fences: what a worker does to a job that is
no longer claimed in its name has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from serving.errors import InvalidRequest
from serving.store.fine_tuning import Job

MAX_ATTEMPTS = 3  # without a checkpoint between them


class JobStatus(StrEnum):
    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING_FILES: frozenset(
        {JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.QUEUED: frozenset(
        {JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.RUNNING: frozenset(
        {JobStatus.PAUSED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
ENDED = frozenset(status for status, following in TRANSITIONS.items() if not following)
TO_VALIDATE = frozenset({JobStatus.VALIDATING_FILES})
TO_TRAIN = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


class IllegalTransition(AssertionError):
    """A bug in Engram: a job was moved to a state it cannot reach."""


def advance(job: Job, new: JobStatus, **changes: Any) -> Job:
    """The job in its new state, if the table allows it; nobody's claim survives the change."""
    if new not in TRANSITIONS[JobStatus(job.status)]:
        raise IllegalTransition(f"a fine-tuning job cannot go from {job.status} to {new}")
    return replace(job, status=new, wanted=None, claimed_by=None, claimed_until=None, **changes)


def shown_status(job: Job) -> str:
    """What the user asked for counts, while its worker still brings it about."""
    return job.wanted or job.status


def with_body(job: Job, **fields: Any) -> Job:
    return replace(job, body={**job.body, **fields})


# What users ask for


def paused(job: Job) -> Job:
    """A running job writes a checkpoint first, so its worker ends it."""
    if shown_status(job) == JobStatus.PAUSED:
        return job
    if job.status == JobStatus.RUNNING:
        return replace(job, wanted=JobStatus.PAUSED)
    if job.status != JobStatus.QUEUED:
        raise _refusal(job, "pause", "queued or running")
    return advance(job, JobStatus.PAUSED)


def resumed(job: Job) -> Job:
    if job.wanted == JobStatus.PAUSED:
        return replace(job, wanted=None)
    if job.status != JobStatus.PAUSED:
        raise _refusal(job, "resume", "paused")
    return advance(job, JobStatus.QUEUED, attempts=0)


def cancelled(job: Job, now: int) -> Job:
    if job.status == JobStatus.CANCELLED:
        return job
    if job.status in ENDED:
        raise _refusal(job, "cancel", "not ended")
    ended = with_body(job, estimated_finish=None)
    return advance(ended, JobStatus.CANCELLED, finished_at=now)


def _refusal(job: Job, verb: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot {verb} the fine-tuning job '{job.id}': it is {shown_status(job)}, not {wanted}",
        param="fine_tuning_job_id",
    )


# What workers do


def claimed(job: Job, claim: str, until: float) -> Job:
    """The attempt is counted before the work begins, so that a job which ends its worker every
    time is given up."""
    new = advance(job, JobStatus.RUNNING) if job.status == JobStatus.QUEUED else job
    return replace(new, claimed_by=claim, claimed_until=until, attempts=job.attempts + 1)


def renewed(job: Job, until: float) -> Job:
    return replace(job, claimed_until=until)


def released(job: Job) -> Job:
    """Nobody's any more: paused if that was asked for, else for whoever claims it next."""
    if job.wanted == JobStatus.PAUSED:
        return advance(with_body(job, estimated_finish=None), JobStatus.PAUSED)
    return replace(job, claimed_by=None, claimed_until=None)


def untouched(job: Job) -> Job:
    """Released as if it had never been claimed."""
    return replace(released(job), attempts=max(0, job.attempts - 1))


def failed(job: Job, code: str, message: str, param: str | None, now: int) -> Job:
    error = {"code": code, "message": message, "param": param}
    return advance(
        with_body(job, error=error, estimated_finish=None), JobStatus.FAILED, finished_at=now
    )

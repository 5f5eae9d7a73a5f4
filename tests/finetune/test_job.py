"""The life of a job, as the table has it."""

from __future__ import annotations

import itertools

import pytest

from serving.errors import InvalidRequest
from serving.finetune.job import (
    ENDED,
    TRANSITIONS,
    IllegalTransition,
    JobStatus,
    advance,
    cancelled,
    claimed,
    failed,
    paused,
    released,
    resumed,
    shown_status,
    untouched,
)
from serving.store.fine_tuning import Job
from serving.types import TenantId


def job(status: JobStatus = JobStatus.QUEUED) -> Job:
    return Job("ftjob-1", TenantId("acme"), status, {"estimated_finish": 9}, 1)


@pytest.mark.parametrize(("old", "new"), [*itertools.product(JobStatus, JobStatus)])
def test_only_the_tables_transitions_are_made(old: JobStatus, new: JobStatus) -> None:
    if new in TRANSITIONS[old]:
        assert advance(job(old), new).status == new
    else:
        with pytest.raises(IllegalTransition):
            advance(job(old), new)


def test_what_has_ended_stays_so() -> None:
    assert {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED} == ENDED


def test_a_running_job_is_paused_by_its_worker_and_shown_as_paused_at_once() -> None:
    running = claimed(job(), "w", 10.0)
    asked = paused(running)
    assert (asked.status, asked.claimed_by, shown_status(asked)) == ("running", "w", "paused")
    assert paused(asked) == asked
    let_go = released(asked)
    assert (let_go.status, let_go.wanted, let_go.claimed_by) == ("paused", None, None)
    assert let_go.body["estimated_finish"] is None


def test_a_queued_job_is_paused_at_once() -> None:
    assert paused(job()).status == "paused"
    assert resumed(paused(job())).status == "queued"


def test_one_that_is_resumed_before_its_worker_let_go_simply_goes_on() -> None:
    again = resumed(paused(claimed(job(), "w", 10.0)))
    assert (shown_status(again), again.claimed_by) == ("running", "w")
    assert released(again).status == "running"


def test_a_cancel_takes_the_claim_away() -> None:
    ended = cancelled(claimed(job(), "w", 10.0), 5)
    assert (ended.status, ended.claimed_by, ended.finished_at) == ("cancelled", None, 5)
    assert cancelled(ended, 6) == ended


def test_what_cannot_be_done_is_refused_with_the_state() -> None:
    done = job(JobStatus.SUCCEEDED)
    for ask in (paused, resumed, lambda one: cancelled(one, 5)):
        with pytest.raises(InvalidRequest, match="it is succeeded, not "):
            ask(done)
    with pytest.raises(InvalidRequest, match="cannot resume"):
        resumed(job())
    with pytest.raises(InvalidRequest, match="cannot pause"):
        paused(job(JobStatus.VALIDATING_FILES))


def test_attempts_are_counted_but_not_those_that_a_worker_gave_back_untouched() -> None:
    taken = claimed(job(), "w", 10.0)
    assert (taken.status, taken.attempts) == ("running", 1)
    assert claimed(released(taken), "v", 20.0).attempts == 2
    assert untouched(taken).attempts == 0


def test_a_failure_says_why() -> None:
    ended = failed(claimed(job(), "w", 10.0), "diverged", "It is NaN.", None, 7)
    assert ended.body["error"] == {"code": "diverged", "message": "It is NaN.", "param": None}
    assert (ended.status, ended.finished_at) == ("failed", 7)

"""Jobs in SQL, on both databases: durable, fenced by the claim, a tenant's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import NotFound
from serving.finetune.job import TO_TRAIN, JobStatus, cancelled, claimed, paused, renewed
from serving.store.database import Database
from serving.store.fine_tuning import Checkpoint, FineTuning, Job, Note
from serving.store.pages import Window
from serving.types import TenantId
from tests.store.conftest import ACME, OTHER, Clock

LEASE_S = 10.0


@pytest.fixture
def store(db: Database, clock: Clock) -> FineTuning:
    return FineTuning(db, clock)


def add(
    store: FineTuning, number: int, tenant: TenantId = ACME, metadata: dict[str, str] | None = None
) -> Job:
    body = {"model": "base", "metadata": metadata}
    job = Job(f"ftjob-{number}", tenant, JobStatus.QUEUED, body, 1_700_000_000 + number)
    return store.create(job, Note("Created"))


def claim(store: FineTuning, clock: Clock, name: str = "w") -> Job | None:
    return store.claim(TO_TRAIN, lambda job: claimed(job, name, clock() + LEASE_S))


def messages(store: FineTuning, job: Job) -> list[str]:
    found = store.events(job.tenant, job.id, Window(limit=100, order="asc"))
    return [event.note.message for event in found.items]


def test_a_job_is_read_as_it_was_written(store: FineTuning) -> None:
    job = add(store, 1)
    assert store.get(ACME, job.id) == job
    with pytest.raises(NotFound, match="No such fine-tuning job: 'ftjob-1'"):
        store.get(OTHER, job.id)


def test_jobs_are_listed_newest_first_a_part_at_a_time(store: FineTuning) -> None:
    for number in range(5):
        add(store, number)
    add(store, 9, OTHER)
    first = store.list(ACME, Window(limit=2))
    assert [job.id for job in first.items] == ["ftjob-4", "ftjob-3"] and first.has_more
    rest = store.list(ACME, Window(limit=5, after="ftjob-3"))
    assert [job.id for job in rest.items] == ["ftjob-2", "ftjob-1", "ftjob-0"]
    assert not rest.has_more


def test_jobs_are_found_by_their_metadata(store: FineTuning) -> None:
    add(store, 1, metadata={"team": "it", "run": "1"})
    add(store, 2, metadata={"team": "hr", "run": ""})
    add(store, 3)

    def found(**metadata: str) -> list[str]:
        return [job.id for job in store.list(ACME, metadata=metadata).items]

    assert found(team="it") == ["ftjob-1"]
    assert found(team="it", run="2") == []
    assert found(run="") == ["ftjob-2"]
    assert len(found()) == 3
    none = store.list(ACME, without_metadata=True).items
    assert [job.id for job in none] == ["ftjob-3"]


@pytest.mark.parametrize("key", ["a b", "a,b", "a}b", "{a", "0", " a", "NULL", "a.b", ""])
def test_a_key_of_metadata_may_be_any_text(store: FineTuning, key: str) -> None:
    add(store, 1, metadata={key: "v"})
    add(store, 2, metadata={"other": "v"})
    assert [job.id for job in store.list(ACME, metadata={key: "v"}).items] == ["ftjob-1"]


def test_it_says_which_claims_and_states_still_count(store: FineTuning, clock: Clock) -> None:
    add(store, 1)
    assert store.held(["w"]) == set() == store.all_states()
    assert claim(store, clock) is not None
    assert store.held(["w", "v"]) == {"w"}
    store.write("w", "ftjob-1", None, [], [Checkpoint(1, "state", {})])
    assert store.all_states() == {"state"}


def test_one_worker_at_a_time_has_a_job(store: FineTuning, clock: Clock) -> None:
    add(store, 1)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda n: claim(store, clock, f"w{n}"), range(4)))
    assert len([job for job in taken if job]) == 1
    clock.now += LEASE_S + 1
    again = claim(store, clock, "v")
    assert again is not None and again.attempts == 2


def test_tenants_take_turns(store: FineTuning, clock: Clock) -> None:
    for number in range(3):
        add(store, number)
    add(store, 7, OTHER)
    taken = [claim(store, clock) for _ in range(4)]
    assert [job.tenant for job in taken if job][:2] == [ACME, OTHER]
    assert claim(store, clock) is None


def test_a_worker_that_lost_its_claim_writes_nothing(store: FineTuning, clock: Clock) -> None:
    job = add(store, 1)
    claim(store, clock, "old")
    clock.now += LEASE_S + 1
    claim(store, clock, "new")
    late = store.write("old", job.id, notes=[Note("late")], checkpoints=[Checkpoint(5, "s", {})])
    assert late is None
    assert messages(store, job) == ["Created"] and store.states(job.id) == []
    assert store.write("new", job.id, lambda one: renewed(one, clock() + LEASE_S)) is not None


def test_a_cancel_takes_the_job_from_its_worker(store: FineTuning, clock: Clock) -> None:
    job = add(store, 1)
    claim(store, clock)
    store.change(ACME, job.id, lambda one: cancelled(one, 5), Note("Cancelled"))
    assert store.write("w", job.id, notes=[Note("Step 1")]) is None
    assert claim(store, clock) is None
    assert messages(store, job) == ["Created", "Cancelled"]


def test_what_changes_nothing_says_nothing(store: FineTuning) -> None:
    job = add(store, 1)
    for _ in range(2):
        store.change(ACME, job.id, paused, Note("Paused"))
    assert messages(store, job) == ["Created", "Paused"]


def test_events_come_newest_first_in_the_order_they_were_said(
    store: FineTuning, clock: Clock
) -> None:
    job = add(store, 1)
    claim(store, clock)
    steps = [Note(f"Step {n}", type="metrics", data={"step": n}) for n in range(30)]
    store.write("w", job.id, notes=steps[:20])
    store.write("w", job.id, notes=steps[20:])
    page = store.events(ACME, job.id, Window(limit=3))
    assert [event.note.message for event in page.items] == ["Step 29", "Step 28", "Step 27"]
    after = store.events(ACME, job.id, Window(limit=100, after=page.items[-1].id))
    assert [event.note.message for event in after.items][-1] == "Created"
    assert [data["step"] for data in store.metrics(job.id)] == list(range(30))
    with pytest.raises(NotFound):
        store.events(OTHER, job.id)


def test_checkpoints_are_shown_once_they_are_models(store: FineTuning, clock: Clock) -> None:
    job = add(store, 1)
    claim(store, clock)
    for step in (10, 20, 30):
        store.write("w", job.id, checkpoints=[Checkpoint(step, f"state-{step}", {"step": step})])
    assert store.checkpoints(ACME, job.id).items == ()
    served = Checkpoint(30, "state-30", {"step": 30}, adapter="mine@1")
    store.write("w", job.id, checkpoints=[served])
    [shown] = store.checkpoints(ACME, job.id).items
    assert (shown.step, shown.adapter) == (30, "mine@1")
    store.forget_state(job.id, [10, 30])
    assert [one.step for one in store.states(job.id)] == [20]
    assert len(store.checkpoints(ACME, job.id).items) == 1
    assert store.referenced({"state-10", "state-20", "state-30"}) == {"state-20"}


def test_jobs_are_counted(store: FineTuning, clock: Clock) -> None:
    add(store, 1)
    add(store, 2, OTHER)
    claim(store, clock)
    assert store.count([JobStatus.QUEUED, JobStatus.RUNNING]) == 2
    assert store.count([JobStatus.QUEUED], OTHER) + store.count([JobStatus.QUEUED], ACME) == 1

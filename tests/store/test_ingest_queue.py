"""The queue, on both databases: one worker for a file at a time, and no file for ever."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.store.chunks import NewChunk, StoredChunk, follow
from serving.store.database import Database
from serving.store.files import Files
from serving.store.ingest_queue import MAX_ATTEMPTS, IngestJob, IngestQueue
from serving.store.keys import Keys
from serving.store.objects import FolderObjects
from serving.store.vector_stores import FileStatus, VectorStoreFile, VectorStores
from serving.types import TenantId
from tests.store.conftest import ACME, OTHER, Clock

LEASE_S = 10.0
CHUNK = NewChunk("words", "title", ("title",), 0, 5, np.ones(2, np.float32))


class Waiting:
    """A database with a store for each tenant and a queue over it."""

    def __init__(self, db: Database, objects: FolderObjects, clock: Clock) -> None:
        self.db, self.clock = db, clock
        self.files, self.stores = Files(db, objects, clock), VectorStores(db, clock)
        self.store = {tenant: self.stores.create(tenant, "docs").id for tenant in (ACME, OTHER)}
        self.queue = self.worker()

    def worker(self) -> IngestQueue:
        return IngestQueue(self.db, LEASE_S, self.clock)

    def attach(self, name: str = "a.md", tenant: TenantId = ACME) -> str:
        file = self.files.create(tenant, name, name.encode())
        self.stores.attach(tenant, self.store[tenant], file.id)
        return file.id

    def file(self, job: IngestJob) -> VectorStoreFile:
        return self.stores.file(job.tenant, job.store, job.file_id)


@pytest.fixture
def waiting(db: Database, tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Waiting:
    return Waiting(db, FolderObjects(tmp_path_factory.mktemp("objects")), clock)


def claimed(queue: IngestQueue) -> IngestJob:
    job = queue.claim()
    assert job is not None
    return job


def test_an_empty_queue_has_nothing_to_claim(waiting: Waiting) -> None:
    assert waiting.queue.claim() is None
    assert waiting.queue.depth() == 0


def test_a_claimed_file_is_nobody_elses(waiting: Waiting) -> None:
    file_id = waiting.attach()
    job = claimed(waiting.queue)
    assert (job.file_id, job.filename, job.attempt) == (file_id, "a.md", 1)
    assert waiting.worker().claim() is None
    assert waiting.queue.depth() == 1


def test_workers_at_once_never_claim_the_same_file(waiting: Waiting) -> None:
    ids = {waiting.attach(f"{n}.md") for n in range(20)}

    def drain(queue: IngestQueue) -> list[str]:
        return [job.file_id for job in iter(queue.claim, None)]

    with ThreadPoolExecutor(4) as pool:
        taken = [id for ids in pool.map(drain, [waiting.worker() for _ in range(4)]) for id in ids]
    assert Counter(taken) == Counter(ids)


def test_a_lease_that_has_run_out_frees_the_file(waiting: Waiting) -> None:
    waiting.attach()
    first = claimed(waiting.queue)
    waiting.clock.now += LEASE_S - 1
    assert waiting.queue.renew(first)
    waiting.clock.now += LEASE_S - 1
    assert waiting.worker().claim() is None
    waiting.clock.now += 2
    second = claimed(waiting.worker())
    assert second.attempt == 2
    assert not waiting.queue.renew(first)
    assert not waiting.queue.fail(first, "invalid_file", "too late")
    assert not waiting.queue.complete(first, "e", [CHUNK])
    assert waiting.file(first).status is FileStatus.IN_PROGRESS
    assert waiting.queue.complete(second, "e", [CHUNK, CHUNK])
    assert (waiting.file(second).status, waiting.file(second).chunks) == ("completed", 2)
    assert [piece.id for piece in pieces(waiting)] == [f"{second.file_id}-{n}" for n in (0, 1)]


def test_a_file_is_given_up_after_its_last_attempt(waiting: Waiting) -> None:
    waiting.attach("bad.md")
    good = waiting.attach("good.md")
    for _ in range(MAX_ATTEMPTS):
        jobs = {job.filename: job for job in iter(waiting.queue.claim, None)}
        waiting.queue.release(jobs["good.md"])
        waiting.clock.now += LEASE_S + 1
    assert [job.file_id for job in iter(waiting.queue.claim, None)] == [good]
    failed = waiting.file(jobs["bad.md"])
    assert failed.status is FileStatus.FAILED
    assert failed.last_error == "'bad.md' ended the worker 3 times."


def test_an_error_that_may_pass_is_tried_again_and_then_fails(waiting: Waiting) -> None:
    waiting.attach()
    ends = [waiting.queue.retry(claimed(waiting.queue), "stumbled") for _ in range(MAX_ATTEMPTS)]
    assert ends == [FileStatus.IN_PROGRESS, FileStatus.IN_PROGRESS, FileStatus.FAILED]
    assert waiting.queue.claim() is None


def test_attaching_a_failed_file_again_gives_it_new_attempts(waiting: Waiting) -> None:
    file_id = waiting.attach()
    waiting.queue.fail(claimed(waiting.queue), "invalid_file", "broken")
    waiting.stores.attach(ACME, waiting.store[ACME], file_id)
    assert claimed(waiting.queue).attempt == 1


def test_what_is_released_counts_no_attempt(waiting: Waiting) -> None:
    waiting.attach()
    for _ in range(MAX_ATTEMPTS + 2):
        job = claimed(waiting.queue)
        assert job.attempt == 1
        waiting.queue.release(job)


def test_a_file_that_failed_before_waits_for_those_that_did_not(waiting: Waiting) -> None:
    waiting.attach("first.md")
    waiting.queue.retry(claimed(waiting.queue), "stumbled")
    waiting.attach("second.md")
    assert claimed(waiting.queue).filename == "second.md"


def test_tenants_take_turns(waiting: Waiting) -> None:
    for n in range(3):
        waiting.attach(f"{n}.md")
    waiting.attach("theirs.md", OTHER)
    order = [job.filename for job in iter(waiting.queue.claim, None)]
    assert order == ["0.md", "theirs.md", "1.md", "2.md"]


def test_the_newest_of_many_tenants_waits_for_one_file_of_each_other(waiting: Waiting) -> None:
    names = [tenant for tenant in (ACME, OTHER) for _ in range(3)]
    for n, tenant in enumerate(names):
        waiting.attach(f"{n}.md", tenant)
    late = TenantId("zz-late")
    Keys(waiting.db).ensure_tenant(late)
    waiting.store[late] = waiting.stores.create(late, "docs").id
    waiting.attach("late.md", late)
    first = [claimed(waiting.queue).tenant for _ in range(3)]
    assert first == [ACME, OTHER, late]


def test_a_tenants_turn_does_not_wait_for_it_never_to_have_failed(waiting: Waiting) -> None:
    waiting.attach("stumbles.md", OTHER)
    waiting.queue.retry(claimed(waiting.queue), "stumbled")
    for n in range(3):
        waiting.attach(f"{n}.md")
    assert [claimed(waiting.queue).tenant for _ in range(2)] == [ACME, OTHER]


def test_a_file_to_be_cut_another_way_is_lost_to_whoever_cuts_it_as_before(
    waiting: Waiting,
) -> None:
    file_id = waiting.attach()
    before = claimed(waiting.queue)
    size = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    wish = {"type": "static", "static": size}
    waiting.stores.attach(ACME, before.store, file_id, chunking=wish)
    now = claimed(waiting.worker())
    assert not waiting.queue.renew(before)
    assert not waiting.queue.complete(before, "e", [CHUNK])
    assert waiting.queue.complete(now, "e", [CHUNK, CHUNK])
    assert waiting.file(now).chunks == 2


def test_what_was_deleted_meanwhile_cannot_be_ended(waiting: Waiting) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    waiting.stores.delete(ACME, job.store)
    assert not waiting.queue.renew(job)
    assert not waiting.queue.complete(job, "e", [CHUNK])
    waiting.queue.release(job)
    assert waiting.queue.depth() == 0


def test_many_chunks_are_written_in_their_order(waiting: Waiting) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    assert waiting.queue.complete(job, "e", (CHUNK for _ in range(1_201)))
    stored = pieces(waiting)
    assert [piece.id for piece in stored] == [f"{job.file_id}-{n}" for n in range(1_201)]
    assert [piece.seq for piece in stored] == sorted(piece.seq for piece in stored)


def test_the_same_content_under_the_same_name_is_not_added_again(waiting: Waiting) -> None:
    first, again = waiting.attach("a.md"), waiting.attach("a.md")
    waiting.attach("b.md")
    for job in [claimed(waiting.queue) for _ in range(3)]:
        assert waiting.queue.complete(job, "e", [CHUNK])
    files = waiting.stores.files(ACME, waiting.store[ACME]).items
    assert sorted(file.filename for file in files) == ["a.md", "b.md"]
    assert again in [file.id for file in files] and first not in [file.id for file in files]
    assert len(pieces(waiting)) == 2


def test_twins_with_attributes_of_their_own_both_stay(waiting: Waiting) -> None:
    store = waiting.store[ACME]
    for path in ("x/a.md", "y/a.md"):
        file = waiting.files.create(ACME, "a.md", b"same")
        waiting.stores.attach(ACME, store, file.id, {"path": path})
        assert waiting.queue.complete(claimed(waiting.queue), "e", [CHUNK])
    assert len(waiting.stores.files(ACME, store).items) == 2


def pieces(waiting: Waiting) -> list[StoredChunk]:
    return [piece for changes in follow(waiting.db, 0) for piece in changes.chunks]

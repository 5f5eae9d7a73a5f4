"""The queue, on both databases: one worker for a file at a time, and no file for ever."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, select

from serving.store.chunks import StoredChunk, follow
from serving.store.database import Database
from serving.store.drafts import Draft, NewChunk, sweep_drafts, write_draft
from serving.store.file_batches import FileBatches
from serving.store.files import Files
from serving.store.ingest_queue import MAX_ATTEMPTS, IngestJob, IngestQueue
from serving.store.keys import Keys
from serving.store.models import ChunkContentRow, DraftRow
from serving.store.objects import FolderObjects
from serving.store.store_files import NewStoreFile
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
def waiting(
    db: Database, tmp_path_factory: pytest.TempPathFactory, clock: Clock
) -> Iterator[Waiting]:
    made = Waiting(db, FolderObjects(tmp_path_factory.mktemp("objects")), clock)
    yield made
    made.queue.close()


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


def test_the_same_content_under_two_ids_stays_under_both(waiting: Waiting) -> None:
    first, again = waiting.attach("a.md"), waiting.attach("a.md")
    jobs = [claimed(waiting.queue) for _ in range(2)]
    for job in jobs:
        assert waiting.queue.complete(job, "e", [CHUNK])
    assert {waiting.file(job).id for job in jobs} == {first, again}
    waiting.stores.remove_file(ACME, jobs[0].store, first)
    assert [piece.file_id for piece in pieces(waiting)] == [again]


def test_cancelling_and_attaching_again_counts_no_attempt(waiting: Waiting) -> None:
    file_id = waiting.attach()
    batches, store = FileBatches(waiting.db, waiting.clock), waiting.store[ACME]
    for _ in range(MAX_ATTEMPTS + 2):
        batch = batches.create(ACME, store, [NewStoreFile(file_id)])
        job = claimed(waiting.queue)
        batches.cancel(ACME, store, batch.id)
        assert not waiting.queue.renew(job)
    batches.create(ACME, store, [NewStoreFile(file_id)])
    last = claimed(waiting.queue)
    assert not waiting.queue.complete(job, "e", [CHUNK])  # the number of its claim fences it
    assert waiting.queue.complete(last, "e", [CHUNK])
    assert waiting.file(last).status is FileStatus.COMPLETED


# What a file's chunks say is written before they have a place.


def many(count: int) -> Iterator[NewChunk]:
    vector = np.ones(384, np.float32)
    return (NewChunk(f"{n} words " * 40, "t", ("t",), 0, 5, vector) for n in range(count))


def contents(waiting: Waiting) -> int:
    with waiting.db.snapshot() as session:
        return session.scalar(select(func.count()).select_from(ChunkContentRow)) or 0


def drafts(waiting: Waiting) -> int:
    with waiting.db.snapshot() as session:
        return session.scalar(select(func.count()).select_from(DraftRow)) or 0


def test_other_writers_hardly_wait_for_a_huge_file(waiting: Waiting) -> None:
    waiting.attach()
    job, done = claimed(waiting.queue), threading.Event()
    waits = list[float]()

    def write_meanwhile() -> None:
        while not done.is_set():
            began = time.monotonic()
            waiting.stores.update(ACME, job.store, ranking={"dense": 1.0, "lexical": 1.0})
            waits.append(time.monotonic() - began)

    other = threading.Thread(target=write_meanwhile)
    other.start()
    assert waiting.queue.complete(job, "e", many(20_000))
    done.set()
    other.join()
    print(f"{len(waits)} other writers waited, {max(waits):.3f} s at most")
    assert len(waits) > 10  # it was 2: before and after
    assert waiting.file(job).chunks == 20_000
    assert sum(len(changes.chunks) for changes in follow(waiting.db, 0)) == 20_000


def test_nobody_sees_what_is_not_published_and_a_killed_writers_draft_goes(
    waiting: Waiting,
) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    left = write_draft(waiting.db, job.store, job.file_id, job.claim, many(1_201))
    assert (left.written, contents(waiting), pieces(waiting)) == (1_000, 1_000, [])
    assert sweep_drafts(waiting.db, waiting.clock.now) == 0  # its writer may be alive
    waiting.clock.now += LEASE_S + 1
    again = claimed(waiting.queue)
    assert sweep_drafts(waiting.db, waiting.clock.now) == 1
    assert (contents(waiting), drafts(waiting)) == (0, 0)
    assert waiting.queue.complete(again, "e", many(1_201))
    assert (contents(waiting), drafts(waiting)) == (1_201, 0)
    assert sweep_drafts(waiting.db, waiting.clock.now + 100 * LEASE_S) == 0
    assert len(pieces(waiting)) == 1_201


def test_a_draft_that_was_swept_is_not_published(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    publish = waiting.queue._publish

    def swept_before(job: IngestJob, embedder: str, draft: Draft) -> bool:
        sweep_drafts(waiting.db, waiting.clock.now + LEASE_S + 1)
        return publish(job, embedder, draft)

    monkeypatch.setattr(waiting.queue, "_publish", swept_before)
    assert not waiting.queue.complete(job, "e", many(1_201))
    assert (pieces(waiting), waiting.file(job).status) == ([], FileStatus.IN_PROGRESS)


def test_what_was_written_for_a_lost_claim_goes(waiting: Waiting) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    waiting.stores.delete(ACME, job.store)
    assert not waiting.queue.complete(job, "e", many(1_201))
    assert (contents(waiting), drafts(waiting)) == (0, 0)


def test_what_deleted_chunks_said_is_gone(waiting: Waiting) -> None:
    waiting.attach()
    job = claimed(waiting.queue)
    assert waiting.queue.complete(job, "e", many(1_201))
    waiting.stores.remove_file(ACME, job.store, job.file_id)
    assert (contents(waiting), pieces(waiting)) == (0, [])


def pieces(waiting: Waiting) -> list[StoredChunk]:
    return [piece for changes in follow(waiting.db, 0) for piece in changes.chunks]

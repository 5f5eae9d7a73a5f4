"""How jobs end that do not go well: with a reason, and with nothing half-registered. The training
itself is a script here; worker, SQL, registry and objects are the real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.app import open_store
from serving.errors import NotFound
from serving.finetune.job import MAX_ATTEMPTS, TO_VALIDATE, JobStatus, claimed, released, with_body
from serving.finetune.jobs import Jobs, NewJob
from serving.finetune.plan import RESULT, STOP, Reporter, read_plan
from serving.finetune.publishing import Publishing, adapter_name, model_name, table
from serving.finetune.training import pack
from serving.finetune.worker import FineTuneWorker
from serving.settings import Settings
from serving.store.fine_tuning import Checkpoint, Job
from serving.store.objects import FolderObjects
from serving.store.pages import Window
from serving.types import AdapterVersion, TenantId
from tests.finetune.files import chats, jsonl
from tests.running import eventually
from tests.tiny_model import write_adapter

ACME = TenantId("acme")
VALIDATED = {"examples": 10, "tokens": 99, "validation_examples": 0, "shared_examples": 0}
Script = Callable[[Path, Reporter], None]


class Ended:
    """A process that has done all at once."""

    def exit_code(self) -> int | None:
        return 0

    def memory_bytes(self) -> int:
        return 0

    def kill(self) -> None:
        pass


class Greedy(Ended):
    """One that takes all the memory there is, until it is ended."""

    ended = False

    def exit_code(self) -> int | None:
        return -9 if self.ended else None

    def memory_bytes(self) -> int:
        return 2**50

    def kill(self) -> None:
        self.ended = True


class Scripted:
    """A launcher whose processes validate anything and train as they are told."""

    def __init__(self, script: Script, running: type[Ended] = Ended) -> None:
        self._script, self._running = script, running
        self.trained = 0

    def launch(self, folder: Path) -> Ended:
        report = Reporter(folder)
        if read_plan(folder).stage == "validate":
            report("validated", **VALIDATED)
            return Ended()
        self.trained += 1
        self._script(folder, report)
        return self._running()


class World:
    """One tenant with a training file, and what a worker needs."""

    def __init__(self, data: Path, model: Path) -> None:
        self.settings = Settings.model_validate(
            {
                "data": data,
                "engine": {
                    "kind": "scripted",
                    "model": str(model),
                    "served_name": "tiny",
                    "max_lora_rank": 8,
                },
                "finetune": {"poll_interval_s": 0.02},
            }
        )
        self.store = open_store(self.settings)
        self.store.keys.ensure_tenant(ACME)
        self.states = FolderObjects(self.settings.training / "states")
        self.jobs = Jobs(self.store.fine_tuning, self.store.files, self.store.adapters, "tiny", 9)

    def start(self, **fields: Any) -> Job:
        data = jsonl(*chats())
        file = self.store.files.create(ACME, "a.jsonl", data, "fine-tune").id
        return self.jobs.create(ACME, NewJob("tiny", file, suffix="mine", **fields))

    @contextmanager
    def working(
        self, launcher: Scripted, adapters: Any = None, lease_s: float = 15.0
    ) -> Iterator[None]:
        worker = FineTuneWorker(
            self.settings.finetune.model_copy(update={"lease_s": lease_s}),
            self.settings.engine,
            self.store.fine_tuning,
            self.store.files,
            adapters or self.store.adapters,
            self.states,
            launcher,
            self.settings.training / "work",
        )
        asyncio.run(worker.__aenter__())
        try:
            yield
        finally:
            asyncio.run(worker.__aexit__())

    def ended(self, job: Job) -> Job:
        ends = ("succeeded", "failed", "cancelled")
        eventually(lambda: self.job(job).status in ends, 30)
        return self.job(job)

    def job(self, job: Job) -> Job:
        return self.store.fine_tuning.get(ACME, job.id)

    def said(self, job: Job) -> list[str]:
        page = self.store.fine_tuning.events(ACME, job.id, Window(limit=100, order="asc"))
        return [event.note.message for event in page.items]

    def registered(self) -> list[str]:
        return [version.id for version in self.store.adapters.list(ACME)]

    def result_files(self) -> list[str]:
        page = self.store.files.list(ACME, purpose="fine-tune-results")
        return [file.id for file in page.items]


@pytest.fixture
def world(tmp_path: Path, tiny_model_folder: Path) -> Iterator[World]:
    world = World(tmp_path / "data", tiny_model_folder)
    yield world
    world.store.ledger.close()


def finishes(folder: Path, report: Reporter, rank: int = 8) -> None:
    report("started", hyperparameters=_SETTLED, step=0, steps=1, learning_rate=1e-3)
    report("step", steps=1, tokens=99, metrics={"step": 1, "train_loss": 1.5})
    write_adapter(folder / RESULT, rank=rank)
    report("finished", step=1, tokens=99, metrics={})


_SETTLED = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 1.0}


def test_a_job_that_goes_well_leaves_a_version_and_a_file(world: World) -> None:
    job = world.start()
    with world.working(Scripted(finishes)):
        ended = world.ended(job)
    assert ended.status == "succeeded"
    assert world.registered() == ["mine@1"]
    assert ended.body["result_files"] == world.result_files() != []
    assert [*(world.settings.training / "work").iterdir()] == []


def test_what_the_registry_refuses_fails_the_job_with_its_reason(world: World) -> None:
    """Here a rank above the engine's."""
    job = world.start()
    with world.working(Scripted(lambda folder, report: finishes(folder, report, rank=16))):
        ended = world.ended(job)
    error = ended.body["error"]
    assert ended.status == "failed" and "rank" in error["message"]
    assert error["code"] == "invalid_value"
    assert world.registered() == [] and world.result_files() == []
    assert ended.body["fine_tuned_model"] is None


def test_a_cancel_while_the_result_is_registered_takes_it_back(world: World) -> None:
    job = world.start()

    class Late:
        """The registry, with a user who cancels just after the adapter is in."""

        def publish(self, tenant: TenantId, name: str, folder: Path, **more: Any) -> AdapterVersion:
            version = world.store.adapters.publish(tenant, name, folder, **more)
            world.jobs.cancel(ACME, job.id)
            return version

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store.adapters, name)

    with world.working(Scripted(finishes), Late()):
        assert world.ended(job).status == "cancelled"
        eventually(lambda: world.registered() == [], 10)
    assert world.result_files() == []
    assert world.said(job)[-1] == "Fine-tuning job cancelled"


def test_a_worker_killed_before_it_wrote_the_end_leaves_one_version_and_one_file(
    world: World,
) -> None:
    job, write = world.start(), world.store.fine_tuning.write
    failures: list[str] = []

    def killed_once(claim: str, job_id: str, change: Any = None, *more: Any, **rest: Any) -> Any:
        kept = world.job(job)
        runs = not failures and change is not None and kept.status == JobStatus.RUNNING
        if runs and change(kept).status == JobStatus.SUCCEEDED:
            failures.append(claim)
            world.store.fine_tuning.change(ACME, job.id, released)
            raise OSError("killed here")
        return write(claim, job_id, change, *more, **rest)

    world.store.fine_tuning.write = killed_once  # type: ignore[method-assign]
    with world.working(Scripted(finishes)):
        ended = world.ended(job)
    assert failures and ended.status == "succeeded"
    assert world.registered() == ["mine@1"]
    assert ended.body["result_files"] == world.result_files() and len(world.result_files()) == 1


def test_a_claim_is_kept_while_a_checkpoint_takes_long_to_be_written(world: World) -> None:
    """Longer than the lease, with another worker who waits for the job."""

    class Slow(FolderObjects):
        def put_file(self, path: Path) -> str:
            time.sleep(4 * lease_s)
            return super().put_file(path)

    lease_s = 0.5
    world.states = Slow(world.settings.training / "states")

    def saves_and_finishes(folder: Path, report: Reporter) -> None:
        place = folder / "checkpoints" / "step-1"
        place.mkdir(parents=True)
        (place / "trainer.pt").write_bytes(b"state")
        report("started", hyperparameters=_SETTLED, step=0, steps=1, learning_rate=1e-3)
        report("checkpoint", name="step-1", step=1, metrics={"step": 1})
        write_adapter(folder / RESULT)
        report("finished", step=1, tokens=99, metrics={})

    job, launcher = world.start(), Scripted(saves_and_finishes)
    with world.working(launcher, lease_s=lease_s), world.working(launcher, lease_s=lease_s):
        assert world.ended(job).status == "succeeded"
    assert launcher.trained == 1


def test_a_long_suffix_leaves_its_checkpoints_a_name(world: World, tmp_path: Path) -> None:
    job = world.start()
    job = with_body(job, user_provided_suffix="a" * 64)
    folder, state = tmp_path / "job", tmp_path / "state"
    for place, number in ((folder / RESULT, 1), (state, 2)):
        write_adapter(place, seed=number)
    (folder / RESULT / "card.json").write_text('{"base_model": "tiny"}')
    (folder / RESULT / "samples.jsonl").write_text('{"text": "Hi"}\n')
    (state / "trainer.pt").write_bytes(b"state")
    world.store.fine_tuning.claim(TO_VALIDATE, lambda job: claimed(job, "w", 2e9))
    saved = world.states.put_file(pack(state))
    steps = [Checkpoint(step, saved, {"step": step, "epoch": step}) for step in (1, 2)]
    world.store.fine_tuning.write("w", job.id, None, [], steps)
    store = world.store
    publishing = Publishing(store.adapters, store.files, store.fine_tuning, world.states, "tiny")
    last = publishing.adapter(job, folder, {})
    adapters = [one.adapter for one in publishing.checkpoints(job, folder, last)]
    assert adapters == ["a" * 58 + ".steps@1", "a" * 64 + "@1"]


def test_a_training_that_never_gets_anywhere_is_given_up(world: World) -> None:
    launcher = Scripted(lambda folder, report: report("crashed", error="OSError at x.py:1"))
    job = world.start()
    with world.working(launcher):
        ended = world.ended(job)
    assert (ended.status, launcher.trained) == ("failed", MAX_ATTEMPTS)
    assert ended.body["error"]["code"] == "server_error"
    assert "ended 3 times without getting any further" in ended.body["error"]["message"]
    assert world.said(job)[-1] == ended.body["error"]["message"]
    assert not any("OSError" in text for text in world.said(job))


def test_a_process_over_its_memory_is_ended(world: World) -> None:
    job = world.start()
    with world.working(Scripted(lambda folder, report: None, Greedy)):
        ended = world.ended(job)
    assert ended.body["error"]["code"] == "out_of_memory"
    assert "needs more than 4096 MiB" in ended.body["error"]["message"]


def test_a_diverged_training_fails_with_its_own_code(world: World) -> None:
    def diverges(_: Path, report: Reporter) -> None:
        report("failed", code="training_diverged", message="The loss is nan at step 3.")

    job = world.start()
    with world.working(Scripted(diverges)):
        error = world.ended(job).body["error"]
    assert error == {
        "code": "training_diverged",
        "message": "The loss is nan at step 3.",
        "param": None,
    }
    assert world.registered() == []


def test_a_file_that_was_deleted_meanwhile_is_named(world: World) -> None:
    job = world.start()
    world.store.files.delete(ACME, job.body["training_file"])
    with world.working(Scripted(finishes)):
        ended = world.ended(job)
    assert "No such file" in ended.body["error"]["message"]
    assert ended.body["error"]["param"] == "training_file"


def test_a_worker_that_leaves_gives_the_job_back_untouched(world: World) -> None:
    class Patient(Ended):
        folder: Path

        def exit_code(self) -> int | None:
            if not (self.folder / STOP).exists():
                return None
            Reporter(self.folder)("stopped")
            return 0

    def waits(folder: Path, _: Reporter) -> None:
        Patient.folder = folder

    job = world.start()
    with world.working(Scripted(waits, Patient)):
        eventually(lambda: world.job(job).status == JobStatus.RUNNING, 30)
    left = world.job(job)
    assert (left.status, left.claimed_by, left.attempts) == ("running", None, 0)
    with world.working(Scripted(finishes)):
        assert world.ended(job).status == "succeeded"


def test_another_job_is_validated_while_one_trains(world: World) -> None:
    def waits(folder: Path, report: Reporter) -> None:
        while not second_is_queued():
            time.sleep(0.02)
        finishes(folder, report)

    def second_is_queued() -> bool:
        return world.job(second).status != JobStatus.VALIDATING_FILES

    first, second = world.start(), world.start()
    with world.working(Scripted(waits)):
        assert world.ended(first).status == world.ended(second).status == "succeeded"


def test_the_name_of_a_model_is_as_openai_writes_it(world: World) -> None:
    named = world.start()
    assert model_name(named, "tiny") == f"ft:tiny:acme:mine:{named.id[-8:]}"
    assert adapter_name(named) == "mine"
    bare = Job("ftjob-0123456789ab", ACME, "queued", {"user_provided_suffix": None}, 1)
    assert model_name(bare, "tiny") == "ft:tiny:acme::456789ab"
    assert adapter_name(bare) == "ft-456789ab"


def test_a_step_that_was_repeated_stands_once_in_the_table() -> None:
    told: list[Mapping[str, Any]] = [
        {"step": 1, "train_loss": 2.0},
        {"step": 2, "train_loss": 9.0, "total_steps": 2},
        {"step": 2, "train_loss": 1.0},
        {"step": 2, "full_valid_loss": 1.5},
    ]
    assert table(told) == b"step,train_loss,full_valid_loss\n1,2.0,\n2,1.0,1.5\n"


def test_states_of_ended_jobs_are_dropped(world: World) -> None:
    def leaves_a_state(folder: Path, report: Reporter) -> None:
        place = folder / "checkpoints" / "step-1"
        place.mkdir(parents=True)
        (place / "trainer.pt").write_bytes(b"state")
        report("checkpoint", name="step-1", step=1, metrics={"step": 1})
        report("failed", code="training_diverged", message="nan")

    job = world.start()
    with world.working(Scripted(leaves_a_state)):
        assert world.ended(job).status == "failed"
    [state] = [one.state for one in world.store.fine_tuning.states(job.id)]
    assert state is not None and world.states.exists(state)
    with world.working(Scripted(finishes)):
        eventually(lambda: not world.states.exists(state), 10)
    assert world.store.fine_tuning.states(job.id) == []
    with pytest.raises(NotFound):
        world.store.fine_tuning.get(TenantId("other"), job.id)

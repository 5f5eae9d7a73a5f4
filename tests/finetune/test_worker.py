"""Whole jobs through OpenAI's SDK, with the real trainer on a tiny random model: what they say,
what becomes of them, and that no kill keeps them from their end."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from serving.app import create_finetune, open_store
from serving.settings import Settings
from serving.types import TenantId
from tests.api.conftest import Gateway, serve
from tests.finetune.files import chat, jsonl
from tests.running import eventually

pytestmark = pytest.mark.timeout(300)
ACME = TenantId("acme")
SIGNED = [chat(f"What is {n}?", f"It is {n}. Yours, Ada.") for n in range(24)]
LONGER: dict[str, Any] = {"hyperparameters": {"n_epochs": 12, "batch_size": 2}}
WITHIN_S = 120.0


@dataclass(frozen=True)
class Place:
    """A gateway with a worker beside it."""

    gateway: Gateway
    settings: Settings

    @property
    def client(self) -> OpenAI:
        return self.gateway.client

    def upload(self, *lines: Any) -> str:
        data = lines[0] if isinstance(lines[0], bytes) else jsonl(*lines)
        return self.client.files.create(file=("a.jsonl", data), purpose="fine-tune").id

    def start(self, training: str, **body: Any) -> str:
        whole: dict[str, Any] = {
            "seed": 1,
            "hyperparameters": {"n_epochs": 2, "batch_size": 8},
        } | body
        jobs = self.client.fine_tuning.jobs
        return jobs.create(model="tiny", training_file=training, **whole).id

    def job(self, job_id: str) -> FineTuningJob:
        return self.client.fine_tuning.jobs.retrieve(job_id)

    def status(self, job_id: str) -> str:
        return str(self.job(job_id).status)

    def wait(self, job_id: str, *statuses: str) -> FineTuningJob:
        wanted = statuses or ("succeeded", "failed", "cancelled")
        eventually(lambda: self.job(job_id).status in wanted, WITHIN_S)
        return self.job(job_id)

    def said(self, job_id: str) -> list[str]:
        events = self.client.fine_tuning.jobs.list_events(job_id, limit=100)
        return [event.message for event in events][::-1]

    def weights(self, model: str) -> bytes:
        """What was registered under the name."""
        registry = open_store(self.settings).adapters
        version = registry.find(ACME, model)
        path = asyncio.run(registry.get(ACME, version.id)).path
        return (path / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "data": tmp_path_factory.mktemp("data"),
            "engine": {
                "kind": "scripted",
                "model": str(tiny_model_folder),
                "served_name": "tiny",
                "max_lora_rank": 8,
            },
            "retrieval": {"embedder": "hashing"},
            "finetune": {
                "idle_only": False,
                "poll_interval_s": 0.05,
                "checkpoint_every_s": 0,
                "lease_s": 4.0,
            },
        }
    )


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker in a thread of its own for the block."""
    leave, ready = threading.Event(), threading.Event()

    async def run() -> None:
        async with create_finetune(settings):
            ready.set()
            await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        leave.set()
        thread.join()


@pytest.fixture(scope="module")
def place(settings: Settings) -> Iterator[Place]:
    with serve(settings) as gateway, working(settings):
        yield Place(gateway, settings)


@pytest.fixture(scope="module")
def done(place: Place) -> FineTuningJob:
    """A job that nothing disturbed."""
    files = place.upload(*SIGNED), place.upload(*SIGNED[:6])
    job = place.start(files[0], validation_file=files[1], suffix="signed")
    return place.wait(job)


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> bytes:
    """The weights that a job of some seconds ends with."""
    job = place.wait(place.start(place.upload(*SIGNED), suffix="undisturbed", **LONGER))
    return place.weights(str(job.fine_tuned_model))


def trainers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "trainer_process" in " ".join(_command(one))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_a_job_ends_with_a_model_and_tells_how_it_went(place: Place, done: FineTuningJob) -> None:
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model == f"ft:tiny:acme:signed:{done.id[-8:]}"
    assert done.finished_at is not None and done.estimated_finish is None
    assert (done.trained_tokens or 0) > 500
    assert (done.hyperparameters.n_epochs, done.hyperparameters.batch_size) == (2, 8)
    assert done.hyperparameters.learning_rate_multiplier == 1.0
    said = place.said(done.id)
    assert said[2] == "Files validated, moving job to queued state"
    assert "6 examples of the validation file are in the training file too" in said
    assert said[-1] == "The job has successfully completed"


def test_metrics_are_events_checkpoints_and_a_file(place: Place, done: FineTuningJob) -> None:
    events = [*place.client.fine_tuning.jobs.list_events(done.id, limit=100)][::-1]
    told: list[Any] = [event.data for event in events if event.type == "metrics"]
    steps = [data for data in told if "train_loss" in data]
    losses = [step["train_loss"] for step in steps]
    assert len(losses) == 6 and losses[-1] < losses[0]
    [result] = done.result_files
    assert place.client.files.retrieve(result).purpose == "fine-tune-results"
    rows = [*csv.DictReader(io.StringIO(place.client.files.content(result).text))]
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [float(row["train_loss"]) for row in rows] == losses
    assert rows[2]["full_valid_loss"] and rows[5]["full_valid_mean_token_accuracy"]
    last, first = place.client.fine_tuning.jobs.checkpoints.list(done.id)
    assert (last.step_number, first.step_number) == (6, 3)
    assert last.fine_tuned_model_checkpoint == done.fine_tuned_model
    assert first.fine_tuned_model_checkpoint == f"{done.fine_tuned_model}:ckpt-step-3"
    assert first.metrics.full_valid_loss is not None


def test_model_and_checkpoint_answer_at_once(place: Place, done: FineTuningJob) -> None:
    """The scripted engine says which adapter it was given."""
    for model in (done.fine_tuned_model, f"{done.fine_tuned_model}:ckpt-step-3"):
        answer = place.client.chat.completions.create(
            model=str(model), messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.model_extra is not None
        assert answer.model_extra["engram"]["adapter"].startswith("signed")
    version = open_store(place.settings).adapters.find(ACME, str(done.fine_tuned_model))
    assert (version.name, version.job) == ("signed", done.id)
    assert version.metrics["tuned"]["loss"] < version.metrics["base"]["loss"]


def test_nothing_is_left_to_go_on_with(place: Place, done: FineTuningJob) -> None:
    assert [*(place.settings.training / "work").iterdir()] == []


def test_a_killed_trainer_ends_with_the_same_weights(place: Place, undisturbed: bytes) -> None:
    """Killed after a checkpoint in the middle of an epoch, and compared bit for bit."""
    job = place.start(place.upload(*SIGNED), suffix="killed", **LONGER)
    eventually(lambda: any("Step 2/" in text for text in place.said(job)), WITHIN_S)
    [trainer] = trainers()
    os.kill(trainer.pid, signal.SIGKILL)
    ended = place.wait(job)
    said = place.said(job)
    assert ended.status == "succeeded", ended.error
    assert "The training process ended; going on from the last checkpoint" in said
    assert any(text.startswith("Fine-tuning job continues after step ") for text in said)
    assert place.weights(str(ended.fine_tuned_model)) == undisturbed


def test_a_paused_job_lets_go_and_goes_on_to_the_same_weights(
    place: Place, undisturbed: bytes
) -> None:
    job = place.start(place.upload(*SIGNED), suffix="paused", **LONGER)
    eventually(lambda: any("Step 1/" in text for text in place.said(job)), WITHIN_S)
    assert str(place.client.fine_tuning.jobs.pause(job).status) == "paused"
    eventually(lambda: trainers() == [], 20)
    assert place.status(job) == "paused"
    assert place.client.fine_tuning.jobs.resume(job).status in ("queued", "running")
    ended = place.wait(job)
    assert place.weights(str(ended.fine_tuned_model)) == undisturbed


def test_a_cancelled_job_stops_within_seconds_and_leaves_nothing(place: Place) -> None:
    job = place.start(place.upload(*SIGNED), suffix="unwanted", hyperparameters={"n_epochs": 50})
    eventually(lambda: any("Step 1/" in text for text in place.said(job)), WITHIN_S)
    assert place.client.fine_tuning.jobs.cancel(job).status == "cancelled"
    eventually(lambda: trainers() == [], 20)
    assert place.said(job)[-1] == "Fine-tuning job cancelled"
    names = {version.name for version in open_store(place.settings).adapters.list(ACME)}
    assert "unwanted" not in names


def test_a_tuned_model_can_be_tuned_on(place: Place, done: FineTuningJob) -> None:
    jobs = place.client.fine_tuning.jobs
    file = place.upload(*SIGNED)
    job = place.wait(
        jobs.create(
            model=str(done.fine_tuned_model),
            training_file=file,
            validation_file=file,
            seed=2,
            suffix="further",
            hyperparameters={"n_epochs": 1, "batch_size": 8},
        ).id
    )
    assert (job.status, job.model) == ("succeeded", "signed@1")
    [first, *_] = [e for e in place.said(job.id) if e.startswith("Step 1/")]
    [fresh, *_] = [e for e in place.said(done.id) if e.startswith("Step 1/")]
    assert float(first.split("=")[1].split(",")[0]) < float(fresh.split("=")[1].split(",")[0])


def test_a_bad_file_fails_the_job_by_line_and_reason(place: Place) -> None:
    job = place.wait(place.start(place.upload(*SIGNED, {"messages": []})))
    assert job.status == "failed" and job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 25: 'messages' must be a list with at least one message" in job.error.message
    assert place.said(job.id)[-1] == job.error.message

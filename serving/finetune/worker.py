"""The fine-tuning worker: takes jobs from the queue and brings each a stage further.

Two threads, so that a file with a mistake is refused in seconds however long another job trains:
one validates, one trains. Either may be killed anywhere: what it had claimed is taken up again when
the lease runs out, from the last checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from serving import telemetry
from serving.adapters.adapter import Adapter
from serving.errors import NotFound, ServingError
from serving.finetune.job import (
    MAX_ATTEMPTS,
    TO_TRAIN,
    TO_VALIDATE,
    JobStatus,
    advance,
    claimed,
    failed,
    released,
    untouched,
    with_body,
)
from serving.finetune.launch import Launcher
from serving.finetune.leftovers import Leftovers
from serving.finetune.plan import START, TRAINING, VALIDATION, Plan, Report, Stage
from serving.finetune.publishing import Publisher, Publishing, succeeded_notes
from serving.finetune.training import Lost, OutOfMemory, Training
from serving.settings import EngineSettings, FineTuneSettings
from serving.store.database import Probe
from serving.store.files import Files
from serving.store.fine_tuning import Change, FineTuning, Job, Note
from serving.store.objects import ObjectStore
from serving.types import AdapterId, TenantId

log = logging.getLogger(__name__)
STUMBLE_S = 1.0  # between attempts while SQL does not answer


class Adapters(Publisher, Protocol):
    """The registry: what a training starts from, and where its result goes."""

    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter: ...

    def retire(self, tenant: TenantId, ref: str) -> object: ...

    def delete(self, tenant: TenantId, ref: str) -> object: ...


class FineTuneWorker:
    """An async context manager. `folder` is where trainings work; `states` holds what they can be
    gone on with, and nothing else."""

    def __init__(
        self,
        settings: FineTuneSettings,
        engine: EngineSettings,
        store: FineTuning,
        files: Files,
        adapters: Adapters,
        states: ObjectStore,
        launcher: Launcher,
        folder: Path,
    ) -> None:
        self._settings, self._engine = settings, engine
        self._store, self._files, self._adapters = store, files, adapters
        self._states, self._launcher, self._folder = states, launcher, folder
        self._publishing = Publishing(adapters, files, store, states, engine.served_name)
        self._leaving = threading.Event()
        self._leftovers = Leftovers(store, states, folder)
        self._threads = [
            threading.Thread(target=self._work, args=stage, name=f"engram-{stage[0]}", daemon=True)
            for stage in (("validate", TO_VALIDATE), ("train", TO_TRAIN))
        ]

    async def __aenter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leaving.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _work(self, stage: Stage, statuses: Collection[str]) -> None:
        with closing(self._store.probe(statuses)) as jobs:
            while not self._leaving.is_set():
                try:
                    busy = self._step(stage, statuses, jobs)
                except Exception:
                    log.exception("cannot go on with fine-tuning; trying again")
                    self._leaving.wait(STUMBLE_S)
                else:
                    if not busy:
                        self._leaving.wait(self._settings.poll_interval_s)

    def _step(self, stage: Stage, statuses: Collection[str], jobs: Probe) -> bool:
        """Works on one job; False when there is none."""
        if stage == "train":
            self._leftovers.sweep()
        job = self._store.claim(statuses, self._claimed) if jobs.read() else None
        if job is None:
            return False
        if job.claimed_by is None:
            self._store.say(job.id, Note(job.body["error"]["message"], level="error"))
            telemetry.FINE_TUNED.labels("failed").inc()
            return True
        with self._place(job) as folder:
            outcome = self._bring_further(job, stage, folder)
        if outcome is not None:
            telemetry.FINE_TUNED.labels(outcome).inc()
        return True

    def _claimed(self, job: Job) -> Job:
        now = time.time()
        if job.attempts >= MAX_ATTEMPTS:
            reason = f"The training ended {job.attempts} times without getting any further."
            return failed(job, "server_error", reason, None, int(now))
        return claimed(job, secrets.token_hex(8), now + self._settings.lease_s)

    @contextmanager
    def _place(self, job: Job) -> Iterator[Path]:
        """A folder for this claim; those of claims before it are nobody's any more."""
        for old in self._folder.glob(f"{job.id}.*"):
            shutil.rmtree(old, ignore_errors=True)
        folder = self._folder / f"{job.id}.{job.claimed_by}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _bring_further(self, job: Job, stage: Stage, folder: Path) -> str | None:
        """How the job ended, if it did."""
        training = Training(
            job,
            folder,
            self._store,
            self._states,
            self._settings.lease_s,
            self._settings.memory_mib * 2**20,
        )
        try:
            with training.renewing():
                self._prepare(job, stage, folder)
                resumed = training.resume_from() if stage == "train" else 0
                log.info("fine-tuning: %s %s from step %d", stage, job.id, resumed)
                return self._end(training, training.run(self._launcher, self._leaving.is_set))
        except Lost:
            return None
        except OutOfMemory:
            limit = self._settings.memory_mib
            message = (
                f"The training needs more than {limit} MiB of memory; use shorter examples or a"
                " smaller 'batch_size'."
            )
            return self._fail(training, "out_of_memory", message)
        except ServingError as error:
            return self._fail(training, error.code, error.message, error.param)

    def _prepare(self, job: Job, stage: Stage, folder: Path) -> None:
        """Puts into the folder what the process needs.

        Raises:
            NotFound: a file or the adapter to start from was deleted meanwhile.
        """
        body = job.body
        for name, param in ((TRAINING, "training_file"), (VALIDATION, "validation_file")):
            if body[param] is not None:
                (folder / name).write_bytes(self._content(job, param))
        if stage == "train" and body["model"] != self._engine.served_name:
            start = asyncio.run(self._adapters.get(job.tenant, AdapterId(body["model"])))
            shutil.copytree(start.path, folder / START)
        self._plan(job, stage).write(folder)

    def _content(self, job: Job, param: str) -> bytes:
        try:
            return self._files.content(job.tenant, job.body[param])
        except NotFound as error:
            raise NotFound(error.message, param=param) from None

    def _plan(self, job: Job, stage: Stage) -> Plan:
        settings, engine, method = self._settings, self._engine, job.body["method"]
        return Plan(
            stage=stage,
            job=job.id,
            model=engine.model,
            base_name=engine.served_name,
            context=engine.max_model_len,
            method=method["type"],
            hyperparameters=method[method["type"]]["hyperparameters"],
            seed=job.body["seed"],
            rank=min(settings.rank, engine.max_lora_rank),
            threads=settings.threads,
            idle_only=settings.idle_only,
            device="gpu" if settings.gpus and stage == "train" else "cpu",
            tokens_per_pass=settings.tokens_per_pass,
            checkpoint_every_s=settings.checkpoint_every_s,
        )

    def _end(self, training: Training, report: Report) -> str | None:
        kind = report["kind"]
        if kind == "validated":
            self._queue(training, report)
        elif kind == "finished":
            return self._publish(training, report)
        elif kind == "failed":
            return self._fail(training, report["code"], report["message"], report.get("param"))
        elif kind == "stopped":
            self._write(training, untouched)
        else:
            self._retry(training, report)
        return None

    def _queue(self, training: Training, report: Report) -> None:
        notes = [Note("Files validated, moving job to queued state", data=_counts(report))]
        if shared := report["shared_examples"]:
            text = f"{shared} examples of the validation file are in the training file too"
            notes.append(Note(text, level="warn"))
        self._write(training, lambda job: advance(job, JobStatus.QUEUED, attempts=0), notes)

    def _retry(self, training: Training, report: Report) -> None:
        """After an end that may have come from outside; the reason is the machine's, not the
        user's, so that it goes to the log."""
        reason = report["error"] if report["kind"] == "crashed" else "it was killed"
        log.warning("fine-tuning: the process of %s ended: %s", training.job.id, reason)
        text = "The training process ended; going on from the last checkpoint"
        self._write(training, released, [Note(text, level="warn")])

    def _publish(self, training: Training, report: Report) -> str | None:
        """Registers the result and ends the job; takes it back if the job was cancelled by then.

        Raises:
            ServingError: the registry refuses the adapter.
        """
        job, metrics = training.job, report["metrics"]
        version = self._publishing.adapter(job, training.folder, metrics)
        checkpoints = self._publishing.checkpoints(job, training.folder, version)
        results = self._publishing.results(job)
        model = version.model or version.id

        def succeeded(job: Job) -> Job:
            done = with_body(
                job,
                fine_tuned_model=model,
                result_files=[results],
                trained_tokens=report["tokens"],
                estimated_finish=None,
            )
            return advance(done, JobStatus.SUCCEEDED, finished_at=int(time.time()))

        notes = succeeded_notes(model, metrics)
        if self._store.write(training.claim, job.id, succeeded, notes, checkpoints) is None:
            adapters = [one.adapter for one in checkpoints if one.adapter] or [version.id]
            self._take_back(job, {*adapters, version.id}, results)
            raise Lost
        return "succeeded"

    def _take_back(self, job: Job, versions: Collection[str], results: str) -> None:
        """Only a cancel does; another worker that has the job by now publishes the same."""
        if self._store.get(job.tenant, job.id).status != JobStatus.CANCELLED:
            return
        self._files.delete(job.tenant, results)
        for version in versions:
            self._adapters.retire(job.tenant, version)
            self._adapters.delete(job.tenant, version)

    def _fail(
        self, training: Training, code: str, message: str, param: str | None = None
    ) -> str | None:
        def change(job: Job) -> Job:
            return failed(job, code, message, param, int(time.time()))

        note = Note(message, level="error", data={"error_code": code, "error_param": param})
        return "failed" if self._write(training, change, [note]) else None

    def _write(self, training: Training, change: Change, notes: Sequence[Note] = ()) -> bool:
        job = training.job
        return self._store.write(training.claim, job.id, change, notes) is not None


def _counts(report: Report) -> dict[str, Any]:
    names = ("examples", "tokens", "validation_examples", "shared_examples")
    return {name: report[name] for name in names}

"""One stage of one job, from its folder to its end: starts the process, keeps what it reports and
passes on what the user asks for meanwhile.

Knows a claim, and that it may be lost: then nothing that it writes has any effect.
"""

from __future__ import annotations

import logging
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.finetune.job import JobStatus, renewed, with_body
from serving.finetune.launch import Launcher, Running
from serving.finetune.plan import CHECKPOINTS, RESUME, STOP, Report, ReportReader
from serving.store.database import SqlFailed
from serving.store.fine_tuning import Checkpoint, FineTuning, Job, Note
from serving.store.objects import ObjectStore

log = logging.getLogger(__name__)
LOOK_S = 0.1
FLUSH_S = 1.0  # how often reports are written, the claim renewed and wishes read
GRACE_S = 60.0  # for a checkpoint, when it was asked to stop
KEPT_EPOCHS = 3  # whose checkpoints become models


class Lost(Exception):
    """The claim is another's, or the job was cancelled."""


class OutOfMemory(Exception):
    """It took more than it may."""


class Training:
    def __init__(
        self,
        job: Job,
        folder: Path,
        store: FineTuning,
        states: ObjectStore,
        lease_s: float,
        memory_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert job.claimed_by is not None
        self.job, self.claim, self.folder = job, job.claimed_by, folder
        self._store, self._states = store, states
        self._lease_s, self._memory_bytes, self._clock = lease_s, memory_bytes, clock
        self._notes: list[Note] = []
        self._checkpoints: list[Checkpoint] = []
        self._fields: dict[str, Any] = {}
        self._began: tuple[int, float] | None = None  # step and time
        self._last: Report = {"kind": "none"}
        self._renewed = time.monotonic()

    def resume_from(self) -> int:
        """Unpacks the newest checkpoint; returns its step, 0 if there is none."""
        for checkpoint in reversed(self._store.states(self.job.id)):
            with _ignoring_lost_objects():
                unpack(self._states, str(checkpoint.state), self.folder / RESUME)
                return checkpoint.step
        return 0

    def run(self, launcher: Launcher, is_leaving: Callable[[], bool]) -> Report:
        """The last thing the process said: how it ended.

        Raises:
            Lost: nobody wants the outcome any more.
            OutOfMemory: it was ended for that.
        """
        reader, process = ReportReader(self.folder), launcher.launch(self.folder)
        flushed, asked = time.monotonic(), 0.0
        try:
            while process.exit_code() is None:
                time.sleep(LOOK_S)
                self._take(reader.new())
                self._check_memory(process)
                if time.monotonic() - flushed >= FLUSH_S:
                    flushed = time.monotonic()
                    self.flush()
                if not asked and (is_leaving() or self.job.wanted == JobStatus.PAUSED):
                    (self.folder / STOP).touch()
                    asked = time.monotonic()
                if asked and time.monotonic() - asked > GRACE_S:
                    process.kill()
            self._take(reader.new())
            self.flush()
            return self._last
        finally:
            process.kill()

    def flush(self) -> None:
        """Writes what has been reported; states before the rows that name them.

        Raises:
            Lost: the claim is.
        """

        def change(job: Job) -> Job:
            kept = replace(job, attempts=1) if self._checkpoints else job
            return self._later(with_body(kept, **self._fields))

        job = self._store.write(
            self.claim, self.job.id, change, self._notes, checkpoints=self._checkpoints
        )
        if job is None:
            raise Lost
        self.job, self._renewed = job, time.monotonic()
        if self._checkpoints:
            self._forget_old()
        self._notes, self._checkpoints = [], []

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Keeps the claim in a thread beside, also while files are fetched or a checkpoint takes
        long to be written."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew_until, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew_until(self, done: threading.Event) -> None:
        often = self._lease_s / 4
        while not done.wait(often):
            if time.monotonic() - self._renewed < often:
                continue
            try:
                if self._store.write(self.claim, self.job.id, self._later) is None:
                    return  # `flush` says that it is lost
            except SqlFailed:
                log.exception("cannot renew the claim on a fine-tuning job")

    def _later(self, job: Job) -> Job:
        return renewed(job, self._clock() + self._lease_s)

    def _check_memory(self, process: Running) -> None:
        if process.memory_bytes() > self._memory_bytes:
            raise OutOfMemory

    def _take(self, reports: list[Report]) -> None:
        for report in reports:
            self._last = report
            take = _TAKES.get(str(report["kind"]))
            if take is not None:
                take(self, report)

    def _started(self, report: Report) -> None:
        body, shown = self.job.body, report["hyperparameters"]
        kind = body["method"]["type"]
        self._fields["method"] = {"type": kind, kind: {"hyperparameters": shown}}
        self._fields["hyperparameters"] = {n: shown[n] for n in body["hyperparameters"]}
        self._began = (report["step"], self._clock())
        done = report["step"]
        text = f"Fine-tuning job continues after step {done}" if done else "Fine-tuning job started"
        self._notes.append(Note(text))

    def _stepped(self, report: Report) -> None:
        metrics, steps = report["metrics"], report["steps"]
        text = f"Step {metrics['step']}/{steps}: training loss={metrics['train_loss']:.2f}"
        if "valid_loss" in metrics:
            text += f", validation loss={metrics['valid_loss']:.2f}"
        self._notes.append(Note(text, type="metrics", data={**metrics, "total_steps": steps}))
        if self._began is not None and metrics["step"] > self._began[0]:
            step, at = self._began
            each = (self._clock() - at) / (metrics["step"] - step)
            finish = self._clock() + each * (steps - metrics["step"])
            self._fields["estimated_finish"] = int(finish)

    def _validated(self, report: Report) -> None:
        metrics = report["metrics"]
        text = f"Step {metrics['step']}: full validation loss={metrics['full_valid_loss']:.2f}"
        self._notes.append(Note(text, type="metrics", data=metrics))

    def _saved(self, report: Report) -> None:
        folder = self.folder / CHECKPOINTS / report["name"]
        archive = pack(folder)
        state = self._states.put_file(archive)
        archive.unlink()
        shutil.rmtree(folder)
        self._checkpoints.append(Checkpoint(report["step"], state, report["metrics"]))
        if "epoch" in report["metrics"]:
            self._notes.append(Note(f"Checkpoint created at step {report['step']}"))

    def _forget_old(self) -> None:
        """Keeps the newest state, and those of the last epochs."""
        found = self._store.states(self.job.id)
        epochs = [one.step for one in found if "epoch" in one.metrics][-KEPT_EPOCHS:]
        forget(
            self._store,
            self._states,
            self.job.id,
            [one for one in found[:-1] if one.step not in epochs],
        )


_TAKES: Mapping[str, Callable[[Training, Report], None]] = {
    "started": Training._started,  # noqa: SLF001 - its own table
    "step": Training._stepped,  # noqa: SLF001
    "validation": Training._validated,  # noqa: SLF001
    "checkpoint": Training._saved,  # noqa: SLF001
}


def forget(
    store: FineTuning, states: ObjectStore, job_id: str, checkpoints: list[Checkpoint]
) -> None:
    """Drops the states of these checkpoints: the rows, then the objects that no other row has."""
    if not checkpoints:
        return
    store.forget_state(job_id, [one.step for one in checkpoints])
    gone = {str(one.state) for one in checkpoints}
    for state in gone - store.referenced(gone):
        states.delete(state)


def pack(folder: Path) -> Path:
    """An archive beside the folder: a checkpoint may be large, and is never in memory whole."""
    packed = folder.with_name(f"{folder.name}.tar")
    with tarfile.open(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return packed


def unpack(states: ObjectStore, state: str, folder: Path) -> None:
    """Raises FileNotFoundError if the state is not there any more."""
    packed = folder.with_name(f"{folder.name}.tar")
    states.fetch(state, packed)
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()


@contextmanager
def _ignoring_lost_objects() -> Iterator[None]:
    """One that is gone makes the training go on from the one before."""
    try:
        yield
    except FileNotFoundError:
        pass

"""The training process: where it stands in the queue for the CPU, and that it outlives nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serving.finetune.launch import LocalLauncher
from serving.finetune.plan import TRAINING, Plan, ReportReader
from serving.settings import ROOT
from tests.finetune.files import chats, jsonl
from tests.running import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="classes of Linux's scheduler")
_LAUNCHES = (
    "import sys, time; from pathlib import Path; from serving.finetune.launch import LocalLauncher;"
    "child = LocalLauncher(1).launch(Path(sys.argv[1])); print(child.pid, flush=True);"
    "time.sleep(600)"
)


def prepared(folder: Path, idle_only: bool = True) -> Path:
    """A folder whose files take some seconds to be looked at."""
    (folder / TRAINING).write_bytes(jsonl(*chats(10)))
    plan = Plan(
        stage="validate",
        job="ftjob-1",
        model="./nowhere",
        base_name="tiny",
        context=100,
        method="supervised",
        hyperparameters={},
        seed=1,
        rank=8,
        threads=1,
        idle_only=idle_only,
        device="cpu",
        tokens_per_pass=100,
        checkpoint_every_s=1.0,
    )
    plan.write(folder)
    return folder


@pytest.mark.parametrize(("idle_only", "policy"), [(True, os.SCHED_IDLE), (False, os.SCHED_OTHER)])
def test_training_comes_after_everything_else(tmp_path: Path, idle_only: bool, policy: int) -> None:
    child = LocalLauncher(1).launch(prepared(tmp_path, idle_only))
    [process] = [c for c in psutil.Process().children() if str(tmp_path) in c.cmdline()]
    try:
        eventually(lambda: process.nice() == 10, 30)
        eventually(lambda: os.sched_getscheduler(process.pid) == policy, 10)
        badness = Path(f"/proc/{process.pid}/oom_score_adj")
        eventually(lambda: badness.read_text().strip() == "1000", 10)
        assert os.getsid(process.pid) == process.pid
        assert child.memory_bytes() > 0
    finally:
        child.kill()
    assert child.exit_code() == -signal.SIGKILL and child.memory_bytes() == 0


def test_it_gets_none_of_the_workers_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGRAM_DATABASE_URL", "postgresql://user:secret@nowhere/db")
    child = LocalLauncher(1).launch(prepared(tmp_path))
    [process] = [c for c in psutil.Process().children() if str(tmp_path) in c.cmdline()]
    try:
        found = process.environ()
        assert found["OMP_NUM_THREADS"] == "1"
        assert not [name for name in found if name.startswith("ENGRAM_")]
    finally:
        child.kill()


def test_it_ends_with_its_worker(tmp_path: Path) -> None:
    prepared(tmp_path)
    worker = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHES, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert worker.stdout is not None
    child = psutil.Process(int(worker.stdout.readline()))
    eventually(lambda: child.nice() == 10, 30)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)


def test_what_goes_wrong_inside_is_reported_without_a_word_of_the_files(tmp_path: Path) -> None:
    child = LocalLauncher(1).launch(prepared(tmp_path, idle_only=False))
    try:
        eventually(lambda: child.exit_code() is not None, 60)
    finally:
        child.kill()
    [report] = ReportReader(tmp_path).new()
    assert report["kind"] == "crashed"
    assert "Error at " in report["error"] and "What is" not in report["error"]

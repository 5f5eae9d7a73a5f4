"""One run of Engram on this machine: its record, its processes, and how all of them end.

Everything that `cluster.py` starts lives in one session of processes, led by `head.py` and written
down in `<data>/run/cluster.json`, so it is found and ended also after a crash, and nothing else is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil

MARK = "_ENGRAM_RUN"  # in the environment of every process we start, directly or not
STOP_S = 45  # answers in flight are finished
ABORT_S = 5
_REPLICA = re.compile(r"ServeReplica:engram:([\w-]+)")


@dataclass(frozen=True, slots=True)
class Run:
    """What `start` started. `session` is the process that leads it, `temp` its sockets and logs."""

    id: str
    session: int
    started: float
    url: str
    temp: str
    settings: dict[str, str]


def write(run: Run, data: Path) -> None:
    record = _record(data)
    record.touch(mode=0o600)  # settings may hold a database password
    record.write_text(json.dumps(asdict(run), indent=1))


def find(data: Path) -> Run | None:
    """The run recorded in `data`, if a process of it is still there."""
    run = _recorded(data)
    return run if run and processes(run) else None


def forget(data: Path) -> None:
    if run := _recorded(data):
        shutil.rmtree(run.temp, ignore_errors=True)
        _record(data).unlink()


def is_ready(run: Run) -> bool:
    parts = readiness(run)
    return bool(parts) and all(parts.values())


def readiness(run: Run) -> Mapping[str, bool]:
    """What `/readyz` says of each part; nothing if it does not answer."""
    try:
        answer = httpx.get(f"{run.url}/readyz", timeout=5, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return {part: state for part, state in answer.items() if isinstance(state, bool)}


def is_led(run: Run) -> bool:
    """Whether somebody replaces what dies. Without its head, replicas may answer for long."""
    try:
        head = psutil.Process(run.session)
        return head.status() != psutil.STATUS_ZOMBIE and _belongs(head, run)
    except psutil.NoSuchProcess:
        return False


def processes(run: Run) -> list[psutil.Process]:
    """Every process of the run: those in its session, and strays that carry its mark."""
    return [process for process in psutil.process_iter() if _belongs(process, run)]


def replicas(run: Run) -> Mapping[str, int]:
    """How many replicas each deployment has, by the names that Ray gives their processes."""
    titles = (_title(process) for process in processes(run))
    return Counter(match[1] for title in titles if (match := _REPLICA.search(title)))


def end(run: Run, grace_s: float) -> None:
    """Ends every process of the run: the head ends the others in order; without it, each alone."""
    members = processes(run)
    head = [process for process in members if process.pid == run.session]
    for process in head or members:
        _signal(process, signal.SIGTERM)
    psutil.wait_procs(members, timeout=grace_s if head else ABORT_S)
    for process in processes(run):
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(processes(run), timeout=ABORT_S)


def folder(data: Path, name: str) -> Path:
    made = data / name
    made.mkdir(parents=True, exist_ok=True)
    return made


def _record(data: Path) -> Path:
    return folder(data, "run") / "cluster.json"


def _recorded(data: Path) -> Run | None:
    file = _record(data)
    return Run(**json.loads(file.read_text())) if file.exists() else None


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def _belongs(process: psutil.Process, run: Run) -> bool:
    try:
        if process.create_time() < run.started - 1:
            return False
        if os.getsid(process.pid) == run.session:
            return process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get(MARK) == run.id
    except (psutil.Error, ProcessLookupError, PermissionError):
        return False

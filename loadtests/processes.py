"""The processes of one arm: found, timed and ended together, and no others.

An arm's first process leads a session and carries a mark in its environment; whatever shares the
mark, such a session, or descends from a member belongs to the arm, also after its parent ended.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

MARK = "_ENGRAM_LOADTEST"
_ROLES = (  # words of a command line and what we call the process, the first that fits
    ("haproxy", "HAProxy"),
    ("VLLM::EngineCore", "engine core"),
    ("VLLM::Worker", "engine core"),
    ("ServeReplica:engram:gateway", "gateway"),
    ("ServeReplica:engram:retriever", "retriever"),
    ("ServeReplica:engram:ingest", "ingest"),
    ("ServeReplica:engram:finetune", "fine-tuning"),
    ("serving.finetune", "training"),
    ("ServeReplica:relay:RelayGateway", "gateway"),
    ("ServeReplica:relay:RelayEngine", "engine front end"),
    ("ServeReplica:relay:OpenAiIngress", "gateway"),
    ("ServeReplica:relay:LLMServer", "engine front end"),
    ("ServeController", "Ray"),
    ("ProxyActor", "Ray proxy"),
    ("loadtests.http_relay", "gateway"),
    ("litellm.proxy", "gateway"),
    ("ray", "Ray"),
    ("serving.deployments", "Ray"),
    ("api_server", "gateway"),
    ("loadtests.plain", "gateway"),
)


class Tree:
    """All processes that carry one mark, or share a session with one that does or did."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._sessions: set[int] = set()

    def lead(self, pid: int) -> None:
        """Remembers the session that this process leads, so that it may end before the others."""
        self._sessions.add(pid)

    @property
    def environment(self) -> dict[str, str]:
        return {MARK: self._mark}

    def processes(self) -> list[psutil.Process]:
        """Every living process of the arm."""
        everyone = [process for process in psutil.process_iter() if _is_alive(process)]
        sessions = {process.pid: _session(process) for process in everyone}
        marked = {process.pid for process in everyone if _mark(process) == self._mark}
        known = self._sessions | {sessions[pid] for pid in marked} - {0, os.getsid(0)}
        self._sessions = known & set(sessions.values())  # an ended one's number may come back
        members = marked | {pid for pid, session in sessions.items() if session in known}
        return _with_descendants(everyone, members)

    def cpu(self) -> Reading:
        return Reading(
            {(p.pid, p.create_time()): (role(p), _cpu_s(p)) for p in self.processes()},
            time.perf_counter(),
        )

    def kill(self) -> None:
        """Ends what is left; again until nothing new was started meanwhile."""
        while members := self.processes():
            for process in members:
                _kill(process)
            psutil.wait_procs(members, timeout=5)


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds of every process at one moment."""

    seconds: Mapping[tuple[int, float], tuple[str, float]]
    at: float

    def since(self, before: Reading) -> dict[str, float]:
        """CPU seconds by role between two readings; a new process counts whole."""
        spent: defaultdict[str, float] = defaultdict(float)
        for key, (role, seconds) in self.seconds.items():
            spent[role] += seconds - before.seconds.get(key, (role, 0.0))[1]
        return dict(spent)


def _cpu_s(process: psutil.Process) -> float:
    """The kernel's clock of that process (nanoseconds; `cpu_times` counts in hundredths)."""
    try:
        return time.clock_gettime((~process.pid << 3) | 2)
    except OSError:
        return 0.0  # it just ended


def role(process: psutil.Process) -> str:
    """What we call it; `other` for what is of no known kind."""
    try:
        line = " ".join([process.name(), *process.cmdline()])
    except psutil.Error:
        line = ""
    return next((role for words, role in _ROLES if words in line), "other")


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return 0


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _with_descendants(everyone: list[psutil.Process], members: set[int]) -> list[psutil.Process]:
    parents = {process.pid: _parent(process) for process in everyone}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        members, grown = members | more, bool(more)
    return [process for process in everyone if process.pid in members]


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass

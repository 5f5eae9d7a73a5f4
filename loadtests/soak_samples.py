"""What the processes of a server hold while it runs: memory, file descriptors, threads, tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.processes import Tree, role

Id = tuple[int, float]  # a process: its number and when it began, since numbers come back
MIB = 2**20
_TASKS = re.compile(r'^engram_asyncio_tasks\{part="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """By one process; memory is what is resident, in MiB."""

    role: str
    memory: float
    fds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment, in seconds since the load began."""

    at: float
    processes: Mapping[Id, Held]
    tasks: Mapping[str, float]
    disk: float


def sample(at: float, tree: Tree, metrics: str, data: Path) -> Sample:
    held = dict(_held(tree.processes()))
    tasks = {part: float(count) for part, count in _TASKS.findall(metrics)}
    return Sample(at, held, tasks, _disk_mib(data))


def lasting(samples: Sequence[Sample]) -> set[Id]:
    """Processes that were there all the time; others come and go with jobs, however long."""
    stay = set.intersection(*(set(sample.processes) for sample in samples))
    return {id for id in stay if samples[0].processes[id].role != "training"}


def series(samples: Sequence[Sample]) -> dict[tuple[str, str], list[float]]:
    """Values over time by what is measured and of whom; all lasting processes are `all`."""
    stay, found = lasting(samples), {}
    roles = sorted({samples[0].processes[id].role for id in stay})
    for measure in ("memory", "fds", "threads"):
        for name in ("all", *roles):
            found[measure, name] = [_sum(one, stay, measure, name) for one in samples]
    for part in sorted(set.intersection(*(set(one.tasks) for one in samples))):
        found["tasks", part] = [one.tasks[part] for one in samples]
    found["processes", "all"] = [float(len(one.processes)) for one in samples]
    found["disk", "data folder"] = [one.disk for one in samples]
    return found


def _sum(one: Sample, stay: set[Id], measure: str, name: str) -> float:
    wanted = (held for id, held in one.processes.items() if id in stay)
    return float(sum(getattr(held, measure) for held in wanted if name in ("all", held.role)))


def _held(processes: Sequence[psutil.Process]) -> Iterator[tuple[Id, Held]]:
    for process in processes:
        try:
            with process.oneshot():
                memory = process.memory_info().rss / MIB
                held = Held(role(process), memory, process.num_fds(), process.num_threads())
                yield (process.pid, process.create_time()), held
        except psutil.Error:
            pass  # it just ended


def _disk_mib(folder: Path) -> float:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                pass  # it was just deleted
    return total / MIB

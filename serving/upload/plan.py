"""What must happen so that a vector store holds what a folder holds.

A file is known by its path below a root, which is kept with it as the attribute `path` beside the
`sha256` of its content: unchanged files are not sent again, and a changed one takes the place of
its earlier version once it is searchable. Files without that attribute are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.upload.tree import Local


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the store; `status` as in the API."""

    file_id: str
    path: str
    sha256: str
    status: str
    chunks: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What must happen; `wait` are files that are there and need only to be read (again).
    `earlier`: the versions by path that go when the new one is searchable."""

    add: tuple[Local, ...] = ()
    change: tuple[Local, ...] = ()
    wait: tuple[Stored, ...] = ()
    delete: tuple[Stored, ...] = ()
    unchanged: int = 0
    earlier: Mapping[str, Sequence[Stored]] = field(default_factory=dict)

    @property
    def work(self) -> int:
        return len(self.add) + len(self.change) + len(self.wait) + len(self.delete)

    def __str__(self) -> str:
        return (
            f"{len(self.add)} to add, {len(self.change)} changed, {len(self.wait)} to read again, "
            f"{len(self.delete)} to delete, {self.unchanged} unchanged"
        )


def plan(local: Sequence[Local], stored: Sequence[Stored], *, prune: bool) -> Plan:
    """Pure: what makes the store hold `local`. Without `prune` only versions are deleted whose
    place another has taken."""
    by_path: dict[str, list[Stored]] = defaultdict(list)
    for known in stored:
        by_path[known.path].append(known)
    add: list[Local] = []
    change: list[Local] = []
    wait: list[Stored] = []
    earlier: dict[str, tuple[Stored, ...]] = {}
    outdated: list[Stored] = []
    for file in local:
        versions = by_path.pop(file.path, [])
        same = [version for version in versions if version.sha256 == file.sha256]
        ready = [version for version in same if version.status == "completed"]
        newest = next(reversed(ready or same), None)
        others = tuple(version for version in versions if version is not newest)
        if ready:
            outdated += [version for version in others if version.status != "in_progress"]
            continue
        earlier[file.path] = others
        if newest is not None:
            wait.append(newest)
        else:
            (change if versions else add).append(file)
    unchanged = len(local) - len(add) - len(change) - len(wait)
    gone = [version for versions in by_path.values() for version in versions] if prune else []
    delete = (*outdated, *gone)
    return Plan(tuple(add), tuple(change), tuple(wait), delete, unchanged, earlier)

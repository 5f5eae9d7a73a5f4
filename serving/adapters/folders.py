"""Adapters that somebody copied into a tenant's folder, `<folder>/<tenant>/<name>@<version>/`.

They are found without a restart, and the registry takes them in when it first sees them. Knows
nothing of SQL.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving.adapters.acceptance import FILES
from serving.adapters.adapter import parse_id
from serving.adapters.tensors import WEIGHTS, read_shapes
from serving.errors import Conflict, InvalidRequest, ServingError
from serving.store.objects import digest_of
from serving.types import AdapterId, TenantId

logger = logging.getLogger("engram.adapters")

REFUSED_S = 60.0
_Stamp = tuple[int, int]  # mtime in ns, and bytes


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a folder was not taken in, and how its files looked."""

    stamps: frozenset[tuple[str, int, int]]
    error: ServingError
    until: float


@dataclass
class Folders:
    """Every tenant's folders. Weights are hashed again only when their file has changed."""

    root: Path
    _digests: dict[Path, tuple[_Stamp, str | None]] = field(default_factory=dict)
    _refused: set[tuple[str, str]] = field(default_factory=set)
    _failed: dict[Path, _Failed] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    def find(self, tenant: TenantId, id: AdapterId) -> Path | None:
        """The folder of this adapter, if there is one; `id` must be a well-formed one."""
        parse_id(id)
        path = self.root / tenant / id
        return path if path.is_dir() and path.parent.parent == self.root else None

    def ids(self, tenant: TenantId) -> Iterator[AdapterId]:
        """What is there, complete or not; why a name is passed over is logged once."""
        folder = self.root / tenant
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.is_dir() or path.name.startswith("."):
                continue
            try:
                parse_id(path.name)
                yield AdapterId(path.name)
            except ValueError as error:
                self.refuse(tenant, path.name, str(error))

    def sha256(self, path: Path) -> str | None:
        """The hash of the weights; None while they are incomplete."""
        weights = path / WEIGHTS
        try:
            found = weights.stat()
        except FileNotFoundError:
            return None
        stamp = found.st_mtime_ns, found.st_size
        known = self._digests.get(path)
        if known is None or known[0] != stamp:
            known = self._digests[path] = stamp, _digest(path)
        return known[1]

    @contextmanager
    def taking_in(self, path: Path) -> Iterator[None]:
        """For the block that takes a folder in. One that was refused is refused again without it,
        since it reads and copies all weights, for a while or until a file has changed."""
        stamps = _stamps(path)
        known = self._failed.get(path)
        if known is not None and known.stamps == stamps and self.clock() < known.until:
            raise known.error.with_traceback(None)
        try:
            yield
        except (InvalidRequest, Conflict) as error:
            self._failed[path] = _Failed(stamps, error, self.clock() + REFUSED_S)
            raise

    def refuse(self, tenant: TenantId, name: str, reason: str) -> None:
        """Logs why a folder is not served, once."""
        key = f"{tenant}/{name}", reason
        if key not in self._refused:
            self._refused.add(key)
            logger.warning("adapter folder %s is not served: %s", *key)


def _stamps(path: Path) -> frozenset[tuple[str, int, int]]:
    stamps = set()
    for name in FILES:
        with suppress(FileNotFoundError):
            found = (path / name).stat()
            stamps.add((name, found.st_ctime_ns, found.st_size))
    return frozenset(stamps)


def _digest(path: Path) -> str | None:
    try:
        read_shapes(path)
    except ServingError:
        return None
    return digest_of(path / WEIGHTS)

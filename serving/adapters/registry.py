"""The adapters in a folder, one `<name>@<version>/` each, found without a restart.

A folder that is still being copied is not ready; one that cannot be served says why; one whose
weights changed since they were first seen is refused, since versions are immutable.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.adapters.adapter import Adapter, parse_id
from serving.adapters.validation import WEIGHTS, AdapterFacts, BaseShape, validate
from serving.errors import Conflict, InvalidRequest, ServingError, UnknownModel
from serving.types import AdapterId

logger = logging.getLogger("engram.adapters")

CARD, SAMPLES = "card.json", "samples.jsonl"
_Stamp = tuple[tuple[str, int, int], ...]  # name, mtime in ns and bytes of each file


@dataclass(frozen=True, slots=True)
class _Seen:
    stamp: _Stamp
    sha256: str
    facts: AdapterFacts


@dataclass
class Registry:
    """Adapters by name. `base` lets it refuse adapters of another base model."""

    folder: Path
    max_rank: int = 16
    base: BaseShape | None = None
    _seen: dict[AdapterId, _Seen] = field(default_factory=dict)
    _digests: dict[AdapterId, str] = field(default_factory=dict)  # first seen, never forgotten
    _refused: set[tuple[str, str]] = field(default_factory=set)

    def get(self, id: AdapterId) -> Adapter:
        """The adapter, checked.

        Raises:
            UnknownModel: no such folder.
            AdapterNotReady: the folder is still being copied.
            InvalidRequest: the adapter cannot be served.
            Conflict: its weights are not those first seen under this version.
        """
        path = self._path(id)
        stamp = _stamp(path)
        if (seen := self._seen.get(id)) is None or seen.stamp != stamp:
            self._seen[id] = self._check(id, path, stamp)
        return Adapter(id, path)

    def latest(self, name: str) -> Adapter:
        """The newest usable version of `name`."""
        versions = [adapter for adapter in self.list() if parse_id(adapter.id)[0] == name]
        if not versions:
            raise UnknownModel(f"adapter '{name}' has no usable version")
        return max(versions, key=lambda adapter: parse_id(adapter.id)[1])

    def list(self) -> tuple[Adapter, ...]:
        """Every usable adapter, by name and version; why one is left out is logged once."""
        usable = []
        for id in sorted(self._ids(), key=parse_id):
            try:
                usable.append(self.get(id))
            except ServingError as error:
                self._log_once(id, error.message)
        return tuple(usable)

    def facts(self, id: AdapterId) -> AdapterFacts:
        """Rank, target modules and base model of an adapter."""
        self.get(id)
        return self._seen[id].facts

    def sha256(self, id: AdapterId) -> str:
        """The hash of the adapter's weights."""
        self.get(id)
        return self._seen[id].sha256

    def samples(self, id: AdapterId) -> tuple[str, ...]:
        """Prompts like those the adapter was trained on; none if it came without."""
        path = self.get(id).path / SAMPLES
        lines = path.read_text().splitlines() if path.is_file() else ()
        try:
            return tuple(str(json.loads(line)["text"]) for line in lines if line.strip())
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(
                f"{SAMPLES} needs one {{'text': …}} a line", param="adapter"
            ) from None

    def card(self, id: AdapterId) -> Mapping[str, Any]:
        """What the adapter's makers say of it; empty if they say nothing."""
        return _read_card(self.get(id).path)

    def _check(self, id: AdapterId, path: Path, stamp: _Stamp) -> _Seen:
        facts = validate(path, self.max_rank, self.base)
        sha256 = _hash(path / WEIGHTS)
        first = self._digests.setdefault(id, _read_card(path).get("sha256", sha256))
        if first != sha256:
            raise Conflict(
                f"the weights of adapter '{id}' changed; versions are immutable: "
                f"publish them as '{_successor(id)}'"
            )
        return _Seen(stamp, sha256, facts)

    def _path(self, id: AdapterId) -> Path:
        try:
            parse_id(id)
        except ValueError as error:
            raise UnknownModel(str(error)) from None
        path = self.folder / id
        if not path.is_dir():
            raise UnknownModel(f"adapter '{id}' does not exist")
        return path

    def _ids(self) -> Iterator[AdapterId]:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if not path.is_dir() or path.name.startswith("."):
                continue
            try:
                parse_id(path.name)
                yield AdapterId(path.name)
            except ValueError as error:
                self._log_once(path.name, str(error))

    def _log_once(self, name: str, reason: str) -> None:
        if (name, reason) not in self._refused:
            self._refused.add((name, reason))
            logger.warning("adapter folder %s is not served: %s", name, reason)


def _successor(id: AdapterId) -> str:
    name, version = parse_id(id)
    return f"{name}@{version + 1}"


def _stamp(path: Path) -> _Stamp:
    files = (path / "adapter_config.json", path / WEIGHTS, path / CARD)
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_card(path: Path) -> Mapping[str, Any]:
    if not (path / CARD).is_file():
        return {}
    try:
        card = json.loads((path / CARD).read_text())
    except ValueError:
        raise InvalidRequest(f"{CARD} is not JSON", param="adapter") from None
    return card if isinstance(card, dict) else {}

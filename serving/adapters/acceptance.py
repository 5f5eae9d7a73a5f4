"""What a folder must be to become a version of an adapter: everything is checked here, and nothing
is written anywhere that lasts.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.adapters.adapter import parse_id
from serving.adapters.base_model import BaseModel
from serving.adapters.card import CARD, SAMPLES, Card, check_samples, read_card
from serving.adapters.tensors import WEIGHTS, refusal
from serving.adapters.validation import CONFIG, read_config, validate
from serving.adapters.weights import check_finite
from serving.errors import Conflict, InvalidRequest
from serving.store.objects import digest_of
from serving.types import AdapterVersion, StoredFile, TenantId, VersionState

FILES = (CONFIG, WEIGHTS, CARD, SAMPLES)  # what of a folder is kept
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is not registered yet, and where its files are."""

    version: AdapterVersion
    files: Mapping[str, Path]

    def published_as(self, model: str | None, job: str | None, metrics: Mapping[str, Any]) -> Draft:
        measured = metrics or self.version.metrics
        return replace(self, version=replace(self.version, model=model, job=job, metrics=measured))


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The rules of one installation: its base model, the engine's rank, and how large is too
    large. `scratch` is a folder for copies that live as long as a call."""

    base: BaseModel
    max_rank: int
    max_bytes: int
    scratch: Path
    clock: Callable[[], float] = time.time

    def check_name(self, name: str) -> None:
        """Raises InvalidRequest if no adapter may be called so."""
        try:
            parse_id(f"{name}@1")
        except ValueError:
            raise InvalidRequest(
                f"'name' must be letters, digits, '-', '_' and '.', not {name[:64]!r}", param="name"
            ) from None
        if len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f"'name' has more than {MAX_NAME_CHARS} characters", param="name")
        if name == self.base.name:
            raise InvalidRequest(f"'{name}' is the base model's name", param="name")

    def draft(self, tenant: TenantId, name: str, folder: Path, number: int = 0) -> Draft:
        """The version that the adapter in `folder` would be, with nothing left unchecked.

        `folder` is one of `copied`: its configuration is written anew.

        Raises:
            Incomplete: a file is missing or cut short.
            InvalidRequest: it cannot be served; the message says why and what to do.
            Conflict: the weights are not those that its card speaks of.
        """
        facts = validate(folder, self.max_rank, self.base.shape)
        check_finite(folder)
        check_samples(folder)
        card = read_card(folder)
        self._check_base(card)
        (folder / CONFIG).write_bytes(canonical(folder))
        files = {name: folder / name for name in FILES if (folder / name).is_file()}
        manifest = {
            name: StoredFile(digest_of(path), path.stat().st_size) for name, path in files.items()
        }
        _check_card(card, manifest[WEIGHTS].sha256)
        now = int(self.clock())
        version = AdapterVersion(
            tenant=tenant,
            name=name,
            version=number,
            state=VersionState.STAGED,
            sha256=manifest[WEIGHTS].sha256,
            manifest=manifest,
            base_model=card.base_model or facts.base_model,
            base_fingerprint=card.base_fingerprint,
            rank=facts.rank,
            alpha=facts.alpha,
            target_modules=facts.target_modules,
            created_at=now,
            changed_at=now,
            metrics=card.metrics,
        )
        return Draft(version, files)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """An empty folder for the block."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.scratch) as folder:
            yield Path(folder)

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Path]:
        """A copy for the block, so that what is checked is what is stored."""
        self._check_size(folder)
        with self.room() as copy:
            for name in FILES:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, copy / name)
            yield copy

    def _check_size(self, folder: Path) -> None:
        total = sum((folder / name).stat().st_size for name in FILES if (folder / name).is_file())
        if total > self.max_bytes:
            raise refusal(
                f"the adapter has {total} bytes, over the limit of {self.max_bytes}: "
                "save it in bfloat16, or with a smaller rank"
            )

    def _check_base(self, card: Card) -> None:
        """What the card says the adapter was trained on is what is served here."""
        ours = self.base.fingerprint
        if card.base_fingerprint and ours:
            if card.base_fingerprint != ours:
                raise refusal(
                    f"base_fingerprint in {CARD} is of another base model than "
                    f"'{self.base.name}': train the adapter on the weights that are served here"
                )
        elif card.base_model and card.base_model != self.base.name:
            raise refusal(
                f"base_model in {CARD} is '{card.base_model[:64]}', and '{self.base.name}' is "
                "served here: train the adapter on that one"
            )


def _check_card(card: Card, sha256: str) -> None:
    if card.sha256 not in (None, sha256):
        raise Conflict(
            f"the weights are not those that sha256 in {CARD} names; versions are immutable: "
            "publish changed weights with a card of their own",
            param="adapter",
        )


def canonical(folder: Path) -> bytes:
    """PEFT's configuration, the same for every order in which PEFT wrote its fields and targets."""
    config = dict(read_config(folder))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    return json.dumps({name: config[name] for name in sorted(config)}, indent=2).encode()

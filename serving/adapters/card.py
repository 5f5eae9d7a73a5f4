"""What an adapter's makers say of it, in two optional files beside the weights.

`card.json`: `sha256` of the weights, `base_model` and `base_fingerprint` (see `base_model.py`) of
what it was trained on, `metrics`, and whatever else they like. `samples.jsonl`: prompts like those
it was trained on, by which the policy knows what it is for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from serving.adapters.tensors import refusal

CARD, SAMPLES = "card.json", "samples.jsonl"
MAX_CARD_BYTES, MAX_SAMPLES_BYTES = 2**20, 8 * 2**20
MAX_CHARS = 512  # of a name


@dataclass(frozen=True, slots=True)
class Card:
    """What of `card.json` means something to Engram."""

    sha256: str | None = None
    base_model: str | None = None
    base_fingerprint: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


def read_card(folder: Path) -> Card:
    """The card of an adapter's folder; an empty one if it has none.

    Raises:
        InvalidRequest: it cannot be read, or a field is of the wrong kind.
    """
    card = _object(_text(folder / CARD, MAX_CARD_BYTES) or "{}")
    for name in ("sha256", "base_model", "base_fingerprint"):
        value = card.get(name, "")
        if not (isinstance(value, str) and value.isprintable() and len(value) <= MAX_CHARS):
            raise refusal(f"'{name}' in {CARD} must be text of at most {MAX_CHARS} characters")
    metrics = card.get("metrics") or {}
    if not isinstance(metrics, dict):
        raise refusal(f"'metrics' in {CARD} must be an object")
    return Card(card.get("sha256"), card.get("base_model"), card.get("base_fingerprint"), metrics)


def check_samples(folder: Path) -> None:
    """Raises InvalidRequest if there are samples and they cannot be read."""
    text = _text(folder / SAMPLES, MAX_SAMPLES_BYTES)
    if text is not None:
        parse_samples(text)


def parse_samples(text: str) -> tuple[str, ...]:
    """The prompts in `samples.jsonl`; raises InvalidRequest if they are not written so."""
    try:
        return tuple(str(json.loads(line)["text"]) for line in text.splitlines() if line.strip())
    except (ValueError, KeyError, TypeError, RecursionError):
        raise refusal(f"{SAMPLES} needs one {{'text': …}} a line") from None


def _text(path: Path, max_bytes: int) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > max_bytes:
        raise refusal(f"{path.name} is over the limit of {max_bytes} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise refusal(f"{path.name} is not UTF-8") from None


def _object(text: str) -> dict[str, Any]:
    try:
        card = orjson.loads(text)  # stricter: no NaN, nothing that cannot be written again
    except ValueError:
        raise refusal(f"{CARD} is not JSON") from None
    if not isinstance(card, dict):
        raise refusal(f"{CARD} is not a JSON object")
    return card

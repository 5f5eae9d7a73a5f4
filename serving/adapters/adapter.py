"""What an adapter is, and the states it passes through on one replica.

An adapter is an immutable LoRA version, written `name@version`. Knows nothing of vLLM or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from serving.types import AdapterId

MAX_DIGITS = 9  # of a version, so that SQL can hold it


@dataclass(frozen=True, slots=True)
class Adapter:
    """An immutable LoRA version, as the engine loads it."""

    id: AdapterId
    path: Path


class AdapterState(StrEnum):
    """Where an adapter stands on one replica."""

    REGISTERED = "registered"  # asked for, waits for a slot
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"  # takes no new leases; others wait for its slot
    EVICTED = "evicted"
    FAILED = "failed"


TRANSITIONS: Mapping[AdapterState, frozenset[AdapterState]] = {
    AdapterState.REGISTERED: frozenset({AdapterState.LOADING, AdapterState.EVICTED}),
    AdapterState.LOADING: frozenset({AdapterState.READY, AdapterState.FAILED}),
    AdapterState.READY: frozenset({AdapterState.DRAINING}),
    AdapterState.DRAINING: frozenset({AdapterState.EVICTED, AdapterState.READY}),
    AdapterState.EVICTED: frozenset({AdapterState.REGISTERED}),
    AdapterState.FAILED: frozenset({AdapterState.REGISTERED}),
}


class IllegalTransition(AssertionError):
    """A bug in Engram: an adapter was moved to a state it cannot reach."""


def advance(current: AdapterState, new: AdapterState) -> AdapterState:
    """The new state, if the table allows it."""
    if new not in TRANSITIONS[current]:
        raise IllegalTransition(f"an adapter cannot go from {current} to {new}")
    return new


def parse_id(text: str) -> tuple[str, int]:
    """Splits `name@3` into its name and version; ValueError if it is not of that form."""
    name, separator, version = text.rpartition("@")
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (separator and plain.isalnum() and plain.isascii() and not name.startswith(".")):
        raise ValueError(f"an adapter is written name@version, not {text!r}")
    is_number = version.isdecimal() and version.isascii() and len(version) <= MAX_DIGITS
    if not (is_number and str(int(version)) == version):
        raise ValueError(f"an adapter's version is a whole number, not {version[:64]!r}")
    return name, int(version)

"""Says when something below a folder has changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import watchfiles

_DEBOUNCE_MS = 800  # an editor's save, or a checkout, is one change
_PULSE_MS = 5_000


def changes(path: Path, stop: threading.Event | None = None) -> Iterator[bool]:
    """True at once and after each burst of changes, False every few seconds without one.

    Ends with `stop`, or with Ctrl-C.
    """
    yield True
    for changed in watchfiles.watch(
        path,
        debounce=_DEBOUNCE_MS,
        rust_timeout=_PULSE_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
    ):
        yield bool(changed)

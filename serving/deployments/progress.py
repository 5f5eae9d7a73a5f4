"""What the head process says about its progress, and how `cluster.py` recognises it in the log."""

from __future__ import annotations

PREFIX = "engram: "
READY = "every replica is healthy"


def say(line: str) -> None:
    print(PREFIX + line, flush=True)

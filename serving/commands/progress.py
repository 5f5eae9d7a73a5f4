"""Shows how far a command is: a bar, or a line now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serving.commands.console import err

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 4
SAY_EVERY_S = 5.0


def each(what: str, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Every result in order, worked out a few at a time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    said = time.monotonic()
    results: list[R] = []
    with (
        Progress(*columns, console=err, transient=True) as bar,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        task = bar.add_task(what, total=len(items))
        for result in pool.map(work, items):
            results.append(result)
            bar.advance(task)
            if not err.is_terminal and time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                err.print(f"{what}: {len(results)}/{len(items)}")
    return results

"""Data parallel training on a busy CPU: a few single-threaded workers that share gradients.

Threads that wait for each other at every operation lose most of their time when other programs
run; workers meet once per step.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.queues import Queue

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

Row = tuple[list[int], list[float]]
Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


def run(work: Callable[..., None], count: int, *arguments: object) -> None:
    """Runs `work(rank, *arguments)` in `count` workers; the first is this process."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        context = mp.get_context("spawn")
        others = [
            context.Process(target=_join, args=(work, rank, count, meeting, arguments))
            for rank in range(1, count)
        ]
        for other in others:
            other.start()
        _join(work, 0, count, meeting, arguments)
        for other in others:
            other.join()


def _join(
    work: Callable[..., None],
    rank: int,
    count: int,
    meeting: str,
    arguments: tuple[object, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    work(rank, *arguments)
    dist.destroy_process_group()


def average(parameters: Iterable[torch.nn.Parameter], over: bool) -> bool:
    """Averages the workers' gradients; tells whether any worker says that time is over."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    shared = torch.cat([g.flatten() for g in gradients] + [torch.tensor([float(over)])])
    dist.all_reduce(shared)
    parts = torch.split(shared[:-1] / dist.get_world_size(), [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return bool(shared[-1] > 0)


def padded(rows: list[Row], size: int) -> Batch:
    """Rows as arrays of `size` columns; what is missing weighs nothing."""
    ids = np.zeros((len(rows), size), np.int64)
    weights = np.zeros((len(rows), size), np.float32)
    for n, (tokens, loss) in enumerate(rows):
        ids[n, : len(tokens)] = tokens
        weights[n, : len(loss)] = loss
    return ids, weights


def batches(make: Callable[..., Iterator[Batch]], *arguments: object) -> Iterator[Batch]:
    """The batches of `make(*arguments)`, made in a process of their own."""
    context = mp.get_context("spawn")
    queue: Queue[Batch] = context.Queue(maxsize=12)
    process = context.Process(target=_fill, args=(queue, make, arguments), daemon=True)
    process.start()
    while True:
        yield queue.get()


def _fill(
    queue: Queue[Batch], make: Callable[..., Iterator[Batch]], arguments: tuple[object, ...]
) -> None:
    os.nice(2)
    parent = os.getppid()
    for batch in make(*arguments):
        queue.put(batch)
        if os.getppid() != parent:
            return


class Window:
    """Losses and time since the last progress line."""

    def __init__(self, tokens: int) -> None:
        self._tokens, self._since = tokens, time.time()
        self._losses: list[float] = []

    @property
    def seconds(self) -> float:
        return time.time() - self._since

    @property
    def mean(self) -> float:
        return sum(self._losses) / len(self._losses)

    def add(self, loss: float) -> None:
        self._losses.append(loss)

    def speed(self, tokens: int) -> float:
        return (tokens - self._tokens) / self.seconds

"""What one request costs the gateway's process, in CPU-µs, and what a change made of that.

    python -m loadtests.request_cost --against ../engram-before

asks this source tree and others in turns, without sockets and for one token, so that little but the
request path is measured. `--engine vllm` puts vLLM's front end under each and its own API server
beside them, all on the scripted worker.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtests.statistics import estimate, ratio
from serving.settings import ROOT

KIB = (1, 32, 220)
HERE = "here"
Turns = dict[str, list[Mapping[str, float]]]


class Worker:
    """`request_worker.py` of one source tree."""

    def __init__(self, name: str, tree: Path, kind: str) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "loadtests.request_worker", kind],
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def until_ready(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line == "ready\n":
                return
        raise RuntimeError(f"{self.name}: the worker did not start")

    def turn(self, kib: int, requests: int, streams: int) -> Mapping[str, float]:
        """Raises RuntimeError if the worker or one of its requests fails."""
        assert self._process.stdin and self._process.stdout
        wish = {"kib": kib, "requests": requests, "streams": streams}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait(60)
            self._said.seek(0)
            last = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"{self.name}: the worker ended at {kib} KiB: {last}")
        turn: dict[str, float] = json.loads(answer)
        return turn

    def end(self) -> None:
        """Closing its input ends it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._said.close()


@contextmanager
def workers(arguments: argparse.Namespace) -> Iterator[list[Worker]]:
    """One per source tree, and vLLM's own server where vLLM is the engine."""
    started = [Worker(HERE, ROOT, arguments.engine)]
    try:
        others = [tree.resolve() for tree in arguments.against]
        started += [Worker(tree.name, tree, arguments.engine) for tree in others]
        if arguments.engine == "vllm":
            started.append(Worker("vLLM alone", ROOT, "bare"))
        for worker in started:
            worker.until_ready()
        yield started
    finally:
        for worker in started:
            worker.end()


def measure(arguments: argparse.Namespace, started: Sequence[Worker]) -> Iterator[str]:
    """Lines per size. A first turn of each worker is dropped."""
    for kib in arguments.kib:
        requests = max(10, arguments.requests // (1 + kib // 16))
        turns: Turns = {worker.name: [] for worker in started}
        for repeat in range(arguments.repeats + 1):
            for worker in started:
                turn = worker.turn(kib, requests, arguments.streams)
                turns[worker.name] += [turn] if repeat else []
        yield from line(f"{kib} KiB, turns of {requests} requests", turns)


def line(title: str, turns: Turns) -> Iterator[str]:
    """CPU of each worker, and that of this tree over each of the others."""
    yield title
    for name, one in turns.items():
        cpu, ttft = estimate([t["cpu_us"] for t in one]), estimate([t["ttft_ms"] for t in one])
        text = f"  {name:<16} {cpu.value:7.0f} CPU-µs/request  first body {ttft.value:6.2f} ms"
        if name != HERE:
            text += f"  {HERE} ÷ it: CPU {_ratio(turns, name, 'cpu_us')}"
            text += f", first body {_ratio(turns, name, 'ttft_ms')}"
        yield text


def _ratio(turns: Turns, name: str, field: str) -> str:
    found = ratio([t[field] for t in turns[HERE]], [t[field] for t in turns[name]])
    return f"{found.value:.2f} ({found.low:.2f} – {found.high:.2f})"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.request_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--against", nargs="+", type=Path, default=[], help="other trees: git worktrees of commits")
    add(
        "--engine",
        choices=("scripted", "vllm"),
        default="scripted",
        help="no vLLM, or its front end",
    )
    add("--kib", nargs="+", type=int, default=KIB, help="sizes of the body (1 32 220)")
    add("--requests", type=int, default=300, help="of 1 KiB in a turn; fewer of larger ones (300)")
    add("--streams", type=int, default=1, help="requests at once (1)")
    add("--repeats", type=int, default=7, help="turns of each worker (7)")
    arguments = parser.parse_args(given)
    with workers(arguments) as started:
        for text in measure(arguments, started):
            print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

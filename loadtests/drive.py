"""Sends requests to any OpenAI-compatible server when they are due, and says how it did.

An open loop: a slow server is not asked less, and every time counts from when a request was due.
`python -m loadtests.drive --url http://127.0.0.1:8000/v1 --model engram-demo --rate 5 --seconds 60`
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

from loadtests import options, trace
from loadtests.client import Target
from loadtests.load import Load
from loadtests.open_loop import open_loop
from loadtests.schedule import constant, poisson
from loadtests.summary import Summary
from loadtests.timing import Slo
from loadtests.trace import Arrival

PROGRESS_S = 5.0


@dataclass(slots=True)
class Drive:
    """One run: what is sent where, and how much of it was."""

    target: Target
    path: str
    model: str
    arrivals: Sequence[Arrival]  # lengths are those that are sent
    stop_early: bool = False
    taken: int = field(default=0, init=False)

    async def run(self) -> Load:
        schedule = [arrival.at_s for arrival in self.arrivals]
        progress = asyncio.create_task(self._progress())
        try:
            return await open_loop(self.target, self._requests(), schedule)
        finally:
            progress.cancel()

    def _requests(self) -> Iterator[bytes]:
        for arrival in self.arrivals:
            self.taken += 1
            yield self.target.request(self.body(arrival), self.path)

    def body(self, arrival: Arrival) -> dict[str, Any]:
        words = trace.prompt(arrival, scale=1.0, limit=arrival.input_tokens)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": arrival.output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body if self.stop_early else body | {"ignore_eos": True}

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            print(f"{self.taken} of {len(self.arrivals)} requests sent", file=sys.stderr)


def arrivals(given: Namespace) -> list[Arrival]:
    """What to send, in the lengths in which it is sent.

    Raises:
        TraceError: see `trace.read` and `trace.cut`.
    """
    if not given.trace:
        times = (poisson if given.poisson else constant)(given.rate, given.seconds)
        return [Arrival(at_s, given.prompt_words, given.max_tokens) for at_s in times]
    return [
        Arrival(
            at_s,
            min(given.trace_max_input, max(1, round(one.input_tokens * given.trace_scale))),
            min(given.max_tokens, max(1, round(one.output_tokens * given.trace_scale))),
            one.blocks,
        )
        for at_s, one in trace.schedule(options.arrivals(given), given.trace_speed)
    ]


def parse(arguments: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(prog="python -m loadtests.drive", description=__doc__)
    add = parser.add_argument
    add("--url", required=True, help="where the API begins, such as http://127.0.0.1:8000/v1")
    add(
        "--api-key",
        default=os.environ.get("OPENAI_API_KEY", ""),
        help="of the server (OPENAI_API_KEY)",
    )
    add("--model", required=True, help="a name that GET /v1/models lists")
    add("--rate", type=float, default=1.0, help="requests per second (1)")
    add("--seconds", type=float, default=30.0, help="for which requests are due (30)")
    add("--poisson", action="store_true", help="arrivals by chance instead of in even steps")
    add("--prompt-words", type=int, default=64, help="about one a token, all different (64)")
    add("--max-tokens", type=int, default=64, help="of an answer (64)")
    add("--stop-early", action="store_true", help="do not send vLLM's ignore_eos")
    add("--json", action="store_true", help="print one JSON object")
    options.add_promises(parser)
    options.add_trace(parser)
    given = parser.parse_args(arguments)
    if problem := _problem(given):
        parser.error(problem)
    return given


def _problem(given: Namespace) -> str | None:
    lengths = ("prompt_words", "max_tokens", "trace_max_input")
    for name in ("rate", "seconds", "trace_speed", "trace_scale", *lengths):
        if getattr(given, name) <= 0:
            return f"--{name.replace('_', '-')} must be above 0"
    url = urlsplit(given.url)
    if url.scheme != "http" or not url.hostname:
        return f"--url {given.url} is no http:// address; TLS is for a proxy in front of it"
    try:
        _ = url.port
    except ValueError:
        return f"--url {given.url} has a port that is none"
    return None


def prepare(given: Namespace) -> Drive:
    """Raises TraceError, see `arrivals`."""
    url = urlsplit(given.url)
    target = Target(url.port or 80, str(url.hostname), given.api_key)
    path = f"{url.path.rstrip('/')}/chat/completions"
    return Drive(target, path, given.model, arrivals(given), given.stop_early)


def main() -> int:
    given = parse()
    try:
        load = uvloop.run(prepare(given).run())
    except trace.TraceError as error:
        print(f"drive: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("drive: stopped", file=sys.stderr)
        return 130
    summary = Summary.of(load, Slo.of(given))
    print(orjson.dumps(asdict(summary)).decode() if given.json else "\n".join(summary.lines()))
    return 1 if summary.errors else 0


if __name__ == "__main__":
    sys.exit(main())

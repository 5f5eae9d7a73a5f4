"""What can be chosen on Locust's command line and in its web page, beyond Locust's own options."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests import trace
from loadtests.shapes import SHAPES

BASE_URL = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
API_KEY = os.environ.get("OPENAI_API_KEY", "")


def add(parser: ArgumentParser) -> None:
    add_promises(parser)
    _add_load(parser)
    add_trace(parser)


def add_promises(parser: ArgumentParser) -> None:
    add = _group(parser, "SLOs: an answer that keeps all counts as GOODPUT; 0 is none")
    add("--ttft-slo-ms", type=float, default=1000.0, help="to the first text")
    add("--tpot-slo-ms", type=float, default=100.0, help="per token after the first")
    add("--e2e-slo-ms", type=float, default=0.0, help="to the end of the answer")


def _add_load(parser: ArgumentParser) -> None:
    add = _group(parser, "Load")
    add(
        "--shape",
        choices=[*SHAPES],
        default="steady",
        help="the number of users over time; --users is its peak, --run-time its period",
    )
    add("--assistants", default="helpdesk", help="whom to ask, separated by commas; each in turn")
    add("--max-tokens", type=int, default=64, help="of an answer")
    add(
        "--fine-tune",
        default="",
        metavar="MODEL",
        help="keep one fine-tuning job of this base model running (the key must be an admin's)",
    )


def add_trace(parser: ArgumentParser) -> None:
    add = _group(parser, "Replay of a trace, instead of users")
    add("--trace", default="", help="a file of Azure's (.csv) or Mooncake's (.jsonl)")
    add("--trace-speed", type=float, default=1.0, help="2 halves every gap")
    add("--trace-start-s", type=float, default=0.0, help="where in it to begin")
    add("--trace-seconds", type=float, default=0.0, help="how much of it; 0 is all")
    add("--trace-scale", type=float, default=1 / 32, help="of the recorded numbers of tokens")
    add("--trace-max-input", type=int, default=256, help="words of a prompt, after scaling")


def _group(parser: ArgumentParser, title: str) -> Callable[..., None]:
    """Adds options under a title of `--help`; in a group Locust's page leaves them out unasked."""
    group = parser.add_argument_group(title)

    def add(flag: str, **more: Any) -> None:
        action: Any = group.add_argument(flag, **more)
        action.include_in_web_ui = True

    return add


def assistants(options: Any) -> list[str]:
    return [name.strip() for name in options.assistants.split(",") if name.strip()]


def arrivals(options: Any) -> list[trace.Arrival]:
    """What to send again.

    Raises:
        TraceError: see `trace.read` and `trace.cut`.
    """
    whole = trace.read(Path(options.trace))
    return trace.cut(whole, options.trace_start_s, options.trace_seconds)


def missing(host: str | None) -> str | None:
    """What the environment lacks, and where to get it; `--host` stands in for the address."""
    given = {
        "OPENAI_BASE_URL": (host or BASE_URL, "http://127.0.0.1:8000/v1"),
        "OPENAI_API_KEY": (API_KEY, "sk-engram-…"),
    }
    for name, (value, example) in given.items():
        if not value:
            return f"{name} is not set; `make up` prints it: export {name}={example}"
    return None


def problem(options: Any) -> str | None:
    """Why these options cannot be followed."""
    if not assistants(options):
        return "--assistants names nobody; give at least one name that GET /v1/models lists"
    if options.trace_speed <= 0 or options.trace_scale <= 0:
        return "--trace-speed and --trace-scale must be above 0"
    try:
        if options.trace:
            arrivals(options)
    except trace.TraceError as error:
        return str(error)
    return None

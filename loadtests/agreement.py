"""Do Locust and the open-loop driver see the same? `python -m loadtests.agreement`

Both send the same requests at the same times to the same server, in turns, each as a process of its
own: Locust as `--trace` does, the driver as `loadtests.drive`. At a low load neither is short of
CPU, so what they say may differ by 5 % at most. Without `--url` the server is a mock.
Writes docs/benchmarks/agreement.md; ends with 1 if they disagree or a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import random
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from loadtests.report import Value, commit, hardware
from loadtests.schedule import constant
from loadtests.selftest import mock
from loadtests.statistics import Estimate, estimate, ratio
from serving.settings import ROOT

TOLERANCE = 0.05
TIMES = ("TTFT", "TPOT", "ITL", "E2E")
SPARE_S = 120.0  # for a process to start, and for the last answers
_JITTER_S = 0.01  # makes prompts differ from turn to turn, since they are made of their times
_LOCUST = ("locust", "-f", str(ROOT / "loadtests/locustfile.py"), "--headless", "--only-summary")


class AgreementError(RuntimeError):
    """A client did not do its turn; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Options:
    url: str  # "" starts a mock
    model: str
    rate: float
    seconds: float
    rounds: int
    prompt_words: int
    max_tokens: int
    output: Path
    say: Callable[[str], None]

    @property
    def requests(self) -> int:
        return len(constant(self.rate, self.seconds))


@dataclass(frozen=True, slots=True)
class Seen:
    """Means of one turn, in milliseconds: the only figures that Locust does not round."""

    means: dict[str, float]
    failed: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """All turns of both, in the order in which they were neighbours."""

    locust: Sequence[Seen]
    driver: Sequence[Seen]

    def ratio(self, name: str) -> Estimate:
        above, below = ([seen.means[name] for seen in turns] for turns in self._turns)
        return ratio(above, below)

    def mean(self, name: str) -> tuple[float, float]:
        """Of the median turn of each, in milliseconds."""
        first, second = (estimate([s.means[name] for s in turns]).value for turns in self._turns)
        return first, second

    @property
    def failed(self) -> int:
        return sum(seen.failed for turns in self._turns for seen in turns)

    @property
    def agree(self) -> bool:
        apart = (abs(self.ratio(name).value - 1) for name in TIMES)
        return not self.failed and max(apart) <= TOLERANCE

    @property
    def _turns(self) -> tuple[Sequence[Seen], Sequence[Seen]]:
        return self.locust, self.driver


async def run(options: Options) -> list[Value]:
    """The values of one comparison, whose page is written. Raises AgreementError."""
    return values(await compare(options))


async def compare(options: Options) -> Agreement:
    """Raises AgreementError."""
    locust: list[Seen] = []
    driver: list[Seen] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agreement-")))
        url = options.url or await _mock_url(stack)
        for turn in range(options.rounds):
            for number, (seen, ask) in enumerate(((locust, _locust), (driver, _drive))):
                trace = folder / f"{turn}-{number}.csv"
                trace.write_text("\n".join(rows(options, seed=2 * turn + number)))
                seen.append(await ask(options, url, trace))
                means = "  ".join(f"{name} {ms:.2f} ms" for name, ms in seen[-1].means.items())
                options.say(f"{turn + 1}/{options.rounds} {('Locust', 'driver')[number]}  {means}")
    found = Agreement(locust, driver)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(page(options, found)))
    return found


def rows(options: Options, seed: int) -> Iterator[str]:
    """A trace in Azure's format: even steps but for a few milliseconds."""
    chance, began = random.Random(seed), datetime(2026, 1, 1)
    yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    for at_s in constant(options.rate, options.seconds):
        at = began + timedelta(seconds=at_s + chance.uniform(0, _JITTER_S))
        yield f"{at:%Y-%m-%d %H:%M:%S.%f},{options.prompt_words},{options.max_tokens}"


async def _mock_url(stack: AsyncExitStack) -> str:
    target = await stack.enter_async_context(mock())
    return f"http://{target.host}:{target.port}/v1"


async def _locust(options: Options, url: str, trace: Path) -> Seen:
    table = trace.with_suffix("")
    names = ("--assistants", options.model, "--csv", str(table), "--exit-code-on-error", "0")
    await _run(options, url, [*_LOCUST, *_replay(options, trace), *names])
    return of_locust(table.with_name(f"{table.name}_stats.csv").read_text(), options.requests)


async def _drive(options: Options, url: str, trace: Path) -> Seen:
    to = ("--url", url, "--model", options.model, "--json")
    said = await _run(options, url, ["loadtests.drive", *_replay(options, trace), *to])
    return of_driver(said, options.requests)


def _replay(options: Options, trace: Path) -> list[str]:
    lengths = ("--trace-max-input", options.prompt_words, "--max-tokens", options.max_tokens)
    return ["--trace", str(trace), "--trace-scale", "1", *map(str, lengths)]


async def _run(options: Options, url: str, command: Sequence[str]) -> bytes:
    """What it printed. A failed request is in that, too, and no reason to stop."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        env=os.environ
        | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY", "none")},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(options.seconds + SPARE_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise AgreementError(f"{command[0]} did not end in time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in (0, 1):
        raise AgreementError(f"{command[0]}: {(output + errors).decode()[-1000:]}")
    return output


def of_locust(table: str, requests: int) -> Seen:
    """From the CSV of its statistics. Raises AgreementError if it sent another number."""
    found = {row["Type"]: row for row in csv.DictReader(table.splitlines())}
    _check("Locust", int(found["POST"]["Request Count"]), requests)
    kept = [name for name in TIMES if name in found]
    means = {name: float(found[name]["Average Response Time"]) for name in kept}
    return _seen("Locust", means, int(found["POST"]["Failure Count"]))


def of_driver(said: bytes, requests: int) -> Seen:
    """From its JSON. Raises AgreementError if it sent another number."""
    found = orjson.loads(said)
    _check("the driver", found["requests"], requests)
    kept = {name: found[f"{name.lower()}_ms"]["mean"] for name in TIMES}
    means = {name: ms for name, ms in kept.items() if ms is not None}
    return _seen("the driver", means, found["requests"] - found["completed"])


def _check(who: str, sent: int, requests: int) -> None:
    if sent != requests:
        raise AgreementError(f"{who} sent {sent} requests instead of {requests}")


def _seen(who: str, means: dict[str, float], failed: int) -> Seen:
    if missing := [name for name in TIMES if name not in means]:
        raise AgreementError(f"{who} saw no {', '.join(missing)}: {failed} requests failed")
    return Seen(means, failed)


def values(found: Agreement) -> list[Value]:
    ratios = {f"agreement.{name.lower()}": found.ratio(name) for name in TIMES}
    return [Value(name, one.value, one.low, one.high, "ratio") for name, one in ratios.items()]


def page(options: Options, found: Agreement) -> Iterator[str]:
    yield "# Do Locust and the open-loop driver agree?"
    yield ""
    yield (
        "Written by `python -m loadtests.agreement`; do not edit. Both sent requests of the same "
        "lengths at the same times to the same server, in turns, as processes of their own. Means "
        "of the median turn; ratios are of neighbouring turns, with a 95 % bootstrap interval."
    )
    yield ""
    yield f"- hardware: {hardware()}"
    yield f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}"
    yield f"- command: `{shlex.join(['python', '-m', 'loadtests.agreement', *sys.argv[1:]])}`"
    yield (
        f"- load: {options.rate:g} requests/s for {options.seconds:g} s, {options.rounds} turns "
        f"each; {options.prompt_words} words in, {options.max_tokens} tokens out; "
        f"{'model ' + options.model if options.url else 'a mock that streams at a fixed pace'}"
    )
    yield ""
    yield "| mean | Locust ms | open loop ms | Locust ÷ open loop | 95 % interval |"
    yield "|---|---|---|---|---|"
    for name in TIMES:
        (locust, driver), apart = found.mean(name), found.ratio(name)
        yield (
            f"| {name} | {locust:.2f} | {driver:.2f} | {apart.value:.3f} "
            f"| {apart.low:.3f} – {apart.high:.3f} |"
        )
    yield ""
    yield verdict(found)
    yield ""


def verdict(found: Agreement) -> str:
    word = "agree" if found.agree else "DISAGREE"
    apart = max(abs(found.ratio(name).value - 1) for name in TIMES)
    return f"They {word}: {apart:.1%} apart at most (limit {TOLERANCE:.0%}), {found.failed} failed."


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The key of the server is read from OPENAI_API_KEY.",
    )
    add = parser.add_argument
    add("--url", default="", help="such as http://127.0.0.1:8000/v1; without it, a mock")
    add("--model", default="mock", help="a name that GET /v1/models lists")
    add("--rate", type=float, default=5.0, help="requests per second, well below the knee (5)")
    add("--seconds", type=float, default=8.0, help="of a turn (8)")
    add("--rounds", type=int, default=5, help="turns of each (5)")
    add("--prompt-words", type=int, default=64, help="about one a token (64)")
    add("--max-tokens", type=int, default=32, help="of an answer (32)")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/agreement.md", help="the page")
    given = parser.parse_args(arguments)
    if given.url and given.model == "mock":
        parser.error("--url needs --model: a name that GET /v1/models lists")
    return Options(**vars(given), say=lambda line: print(line, flush=True))


def main() -> int:
    options = parse()
    try:
        found = asyncio.run(compare(options))
    except AgreementError as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("agreement: stopped", file=sys.stderr)
        return 130
    print("\n".join(page(options, found)))
    return 0 if found.agree else 1


if __name__ == "__main__":
    sys.exit(main())

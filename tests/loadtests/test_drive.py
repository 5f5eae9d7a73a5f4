from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

from loadtests import trace
from loadtests.drive import arrivals, parse, prepare
from loadtests.mock import Mock, Pace
from serving.settings import ROOT

TO = ("--url", "http://127.0.0.1:9/v1", "--model", "m")


async def _drive(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.drive", *arguments),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_sends_what_was_asked_and_prints_json() -> None:
    async with await Mock(Pace(ttft_s=0.05, itl_s=0.01, tokens=4)).start() as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        arguments = ("--url", url, "--model", "m", "--rate", "20", "--seconds", "0.5", "--json")
        code, output, errors = await _drive(*arguments)
    found = orjson.loads(output)
    assert (code, found["requests"], found["completed"], found["errors"]) == (0, 10, 10, {}), errors
    assert found["tokens"] == 40
    assert found["ttft_ms"]["p50"] >= 50 and found["e2e_ms"]["p50"] >= 80


async def test_a_server_that_is_not_there_is_said_and_ends_with_1() -> None:
    code, output, _ = await _drive(*TO, "--rate", "4", "--seconds", "0.5")
    assert code == 1
    assert "2 failed" in output and "ConnectionRefusedError" in output


def test_requests_carry_model_length_and_prompts_that_differ() -> None:
    drive = prepare(parse([*TO, "--rate", "2", "--seconds", "1", "--prompt-words", "9"]))
    first, second = (drive.body(arrival) for arrival in drive.arrivals)
    assert drive.path == "/v1/chat/completions"
    assert (first["model"], first["max_tokens"], first["ignore_eos"]) == ("m", 64, True)
    assert len(first["messages"][0]["content"].split()) == 9
    assert first["messages"] != second["messages"]
    assert "ignore_eos" not in prepare(parse([*TO, "--stop-early"])).body(drive.arrivals[0])


def test_a_trace_gives_times_and_scaled_lengths(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2026-01-01 00:00:00.000000,320,64\n"
        "2026-01-01 00:00:02.000000,9000,640\n"
    )
    given = parse([*TO, "--trace", str(path), "--trace-speed", "2", "--max-tokens", "10"])
    assert [(one.at_s, one.input_tokens, one.output_tokens) for one in arrivals(given)] == [
        (0.0, 10, 2),
        (1.0, 256, 10),
    ]


def test_poisson_times_are_not_even() -> None:
    even = [one.at_s for one in arrivals(parse([*TO, "--rate", "4", "--seconds", "2"]))]
    chance = [one.at_s for one in arrivals(parse([*TO, "--rate", "4", "--poisson"]))]
    assert even == [n / 4 for n in range(8)]
    assert len(chance) == 120 and chance != sorted({round(at_s * 4) / 4 for at_s in chance})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--url", "https://example.org/v1", "--model", "m"), "--url https://example.org/v1"),
        (("--url", "http://here:80a/v1", "--model", "m"), "has a port that is none"),
        ((*TO, "--rate", "0"), "--rate must be above 0"),
        ((*TO, "--trace-scale", "-1"), "--trace-scale must be above 0"),
        ((*TO, "--trace-max-input", "0"), "--trace-max-input must be above 0"),
    ],
)
def test_what_cannot_be_done_is_said_by_its_option(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert said in capsys.readouterr().err


def test_a_missing_trace_is_named() -> None:
    with pytest.raises(trace.TraceError, match=r"nowhere\.csv"):
        prepare(parse([*TO, "--trace", "nowhere.csv"]))

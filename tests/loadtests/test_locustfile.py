"""Locust patches the interpreter when imported, so it only ever runs in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec

import pytest

from loadtests.mock import Mock, Pace
from serving.settings import ROOT

ARGUMENTS = (
    "--headless",
    "--users",
    "6",
    "--spawn-rate",
    "6",
    "--run-time",
    "4s",
    "--only-summary",
)


@pytest.mark.skipif(not find_spec("locust"), reason="needs the extra `loadtest`")
async def test_the_journeys_run_and_report_the_time_to_the_first_token() -> None:
    server = await Mock(Pace(ttft_s=0.01, itl_s=0.001, tokens=4)).start()
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py")),
            *ARGUMENTS,
            env=os.environ | {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report
    assert "TTFT" in report
    assert "0(0.00%)" in report

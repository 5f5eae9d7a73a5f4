"""Locust patches the interpreter when imported, so it only ever runs in processes of its own."""

from __future__ import annotations

import asyncio
import csv
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from loadtests.mock import Mock, Pace
from serving.settings import ROOT
from tests.api.conftest import Gateway, scripted, serve
from tests.api.test_adapters import add
from tests.tiny_model import write_adapter

pytestmark = pytest.mark.skipif(not find_spec("locust"), reason="needs the extra `loadtest`")

LOCUST = (sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py"))
MOCK = Pace(ttft_s=0.03, itl_s=0.01, tokens=5)
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2026-01-01 00:00:0{n // 10}.{n % 10}00000,320,64\n" for n in range(20)
)
PATIENT = ("--ttft-slo-ms", "60000", "--tpot-slo-ms", "60000")  # a busy machine fails no test
Table = Mapping[tuple[str, str], Mapping[str, str]]  # rows by type and name


@dataclass(frozen=True)
class Run:
    output: str
    code: int | None
    table: Table

    def count(self, kind: str, name: str) -> int:
        return int(self.table[kind, name]["Request Count"])

    def failures(self) -> dict[tuple[str, str], str]:
        return {
            key: row["Failure Count"]
            for key, row in self.table.items()
            if row["Failure Count"] != "0"
        }


async def locust(url: str, csv_prefix: Path, *arguments: str, key: str = "key") -> Run:
    """Runs without a page and reads the table that Locust writes."""
    process = await start(
        url, "--headless", "--only-summary", "--csv", str(csv_prefix), *arguments, key=key
    )
    output, _ = await process.communicate()
    return Run(output.decode(), process.returncode, dict(rows(csv_prefix)))


async def start(url: str, *arguments: str, key: str = "key") -> asyncio.subprocess.Process:
    environ = os.environ | {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
    return await asyncio.create_subprocess_exec(
        *LOCUST,
        *arguments,
        env={name: value for name, value in environ.items() if value},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def rows(prefix: Path) -> Iterator[tuple[tuple[str, str], Mapping[str, str]]]:
    path = prefix.with_name(f"{prefix.name}_stats.csv")
    for row in csv.DictReader(path.read_text().splitlines()) if path.exists() else ():
        yield (row["Type"], row["Name"]), row


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[Gateway]:
    """Everything that the journeys touch, with two adapters; nobody trains."""
    engine = {"kind": "scripted", "model": str(tiny_model_folder), "served_name": "engram-demo"}
    with serve(scripted(tmp_path_factory.mktemp("data"), engine=engine)) as running:
        for seed in (1, 2):
            folder = write_adapter(tmp_path_factory.mktemp("adapter") / "made", seed)
            add(running.http, "desk", folder)
        helpdesk = {"adapter": "desk@1", "vector_stores": [running.store]}
        assert running.http.put("/admin/assistants/helpdesk", json=helpdesk).status_code == 200
        yield running


@asynccontextmanager
async def paced() -> AsyncIterator[str]:
    """The address of a server that streams at a known pace."""
    async with await Mock(MOCK).start() as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_every_journey_runs_without_a_failed_request(
    gateway: Gateway, tmp_path: Path
) -> None:
    users = ("--users", "13", "--spawn-rate", "13", "--run-time", "8s")
    more = ("--fine-tune", "engram-demo", "--html", str(tmp_path / "report.html"), *PATIENT)
    run = await locust(gateway.url, tmp_path / "all", *users, *more, key=gateway.client.api_key)
    assert (run.code, run.failures()) == (0, {}), run.output
    for name in ("single question", "conversation, turn 2", "mode hybrid", "adapter churn"):
        assert run.count("TTFT", name) and run.count("GOODPUT", name), name
    assert run.count("INGEST", "searchable")
    assert run.count("POST", "POST search")
    assert run.count("POST", "POST fine-tuning job")
    assert {"TTFT", "TPOT", "ITL", "GOODPUT"} <= {kind for kind, _ in run.table}
    assert "GOODPUT" in (tmp_path / "report.html").read_text()
    assert "goodput under TTFT ≤ 60000 ms, TPOT ≤ 60000 ms" in run.output
    methods = ("POST", "GET", "DELETE")
    asked = sum(run.count(*key) for key in run.table if key[0] in methods)
    assert run.count("", "Aggregated") == asked  # what is no request is not counted as one


async def test_what_the_journeys_made_is_gone_after_them(gateway: Gateway, tmp_path: Path) -> None:
    before = [job.id for job in gateway.client.fine_tuning.jobs.list()]
    run = await locust(
        gateway.url,
        tmp_path / "tidy",
        *("--users", "2", "--spawn-rate", "2", "--run-time", "4s"),
        *("--fine-tune", "engram-demo", "Documents", "FineTune"),
        key=gateway.client.api_key,
    )
    assert run.code == 0, run.output
    assert [store.id for store in gateway.client.vector_stores.list()] == [gateway.store]
    assert list(gateway.client.files.list()) == []
    after = [job for job in gateway.client.fine_tuning.jobs.list() if job.id not in before]
    assert [job.status for job in after] == ["cancelled"]


async def test_a_refusal_and_a_server_that_is_gone_are_failures_with_their_reason(
    gateway: Gateway, tmp_path: Path
) -> None:
    once = ("--users", "1", "--run-time", "2s", "--assistants", "nobody", "SingleQuestion")
    refused = await locust(gateway.url, tmp_path / "refused", *once, key=gateway.client.api_key)
    gone = await locust("http://127.0.0.1:9", tmp_path / "gone", *once)
    for run, reason in ((refused, "HTTP 404: model_not_found"), (gone, "Connection refused")):
        assert run.code == 1
        assert set(run.failures()) == {("POST", "single question"), ("", "Aggregated")}
        assert reason in run.output
        assert not any(kind == "TTFT" for kind, _ in run.table)


async def test_an_answer_by_another_adapter_is_a_failure(tmp_path: Path) -> None:
    server = await asyncio.start_server(_confused, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        run = await locust(url, tmp_path / "wrong", "--run-time", "2s", "AdapterChurn")
    assert run.code == 1
    assert "answered by desk@2, not by desk@1" in run.output
    assert ("POST", "adapter churn") in run.failures()


async def _confused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lists one adapter and answers with another."""
    head = await reader.readuntil(b"\r\n\r\n")
    body, kind = b'{"data": [{"id": "desk@1"}]}', b"application/json"
    if head.startswith(b"POST"):
        text = b'{"choices":[{"delta":{"content":"hi"}}],"usage":{"completion_tokens":1}}'
        body, kind = b"data: " + text + b"\n\ndata: [DONE]\n\n", b"text/event-stream"
    named = b"engram-adapter: desk@2\r\ncontent-type: " + kind
    sized = b"content-length: %d\r\nconnection: close" % len(body)
    writer.write(b"HTTP/1.1 200 OK\r\n" + named + b"\r\n" + sized + b"\r\n\r\n" + body)
    await writer.drain()
    writer.close()


async def test_times_are_those_of_a_server_with_a_known_pace(tmp_path: Path) -> None:
    slos = ("--ttft-slo-ms", "1", "--tpot-slo-ms", "0")
    async with paced() as url:
        run = await locust(
            url, tmp_path / "paced", "--users", "2", "--run-time", "4s", *slos, "SingleQuestion"
        )
    assert run.code == 0, run.output
    answers = run.count("TTFT", "single question")
    assert answers == run.count("E2E", "single question") > 0
    assert run.count("ITL", "single question") == answers * (MOCK.tokens - 1)
    for kind, least in (("TTFT", MOCK.ttft_s), ("TPOT", MOCK.itl_s), ("ITL", MOCK.itl_s)):
        average = float(run.table[kind, "single question"]["Average Response Time"])
        assert average > least * 900, kind  # a timer may fire a little early
    assert ("GOODPUT", "single question") not in run.table  # nobody has text within 1 ms
    assert f"0 of {answers} completed answers" in run.output


async def test_a_trace_is_sent_again_whole_and_then_the_test_ends(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    trace = ("--trace", str(tmp_path / "trace.csv"), "--trace-speed", "2")
    async with paced() as url:
        run = await locust(url, tmp_path / "replay", *trace, *PATIENT)
    assert run.code == 0, run.output
    assert run.count("POST", "replay") == run.count("GOODPUT", "replay") == 20


async def test_workers_share_a_trace_and_the_master_counts_it_once(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    async with paced() as url:
        at = ("--master-host", "127.0.0.1", "--master-port", port)
        workers = [await start(url, "--worker", *at) for _ in range(2)]
        run = await locust(
            url,
            tmp_path / "shared",
            *("--master", "--master-bind-port", port, "--expect-workers", "2"),
            *("--trace", str(tmp_path / "trace.csv")),
        )
        reports = [(await worker.communicate())[0].decode() for worker in workers]
    assert run.code == 0, run.output
    assert run.count("POST", "replay") == run.count("TTFT", "replay") == 20
    assert run.count("ITL", "replay") == 20 * (MOCK.tokens - 1)
    for report in reports:
        assert "single question" not in report


async def test_the_page_offers_the_options_of_the_command_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await start("http://127.0.0.1:9", "--web-host", "127.0.0.1", "--web-port", str(port))
    try:
        page = await _page(f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()
        await process.communicate()
    for option in ("shape", "ttft_slo_ms", "assistants", "trace", "trace_speed"):
        assert f'"{option}"' in page, option


async def _page(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:  # until Locust listens, or the test's time is over
            try:
                return (await http.get(url)).text
            except httpx.TransportError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("url", "key", "arguments", "reason"),
    [
        ("", "key", (), "OPENAI_BASE_URL is not set; `make up` prints it"),
        ("http://127.0.0.1:9", "", (), "OPENAI_API_KEY is not set; `make up` prints it"),
        ("http://127.0.0.1:9", "key", ("--trace", "no.csv"), "--trace no.csv: FileNotFoundError"),
        ("http://127.0.0.1:9", "key", ("--assistants", ","), "--assistants names nobody"),
        ("http://127.0.0.1:9", "key", ("--trace-speed", "0"), "must be above 0"),
    ],
)
async def test_what_is_missing_is_said_before_anything_is_sent(
    url: str, key: str, arguments: tuple[str, ...], reason: str
) -> None:
    environ = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    process = await asyncio.create_subprocess_exec(
        *(*LOCUST, "--headless", *arguments),
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert reason in output.decode()
    assert "Traceback" not in output.decode()

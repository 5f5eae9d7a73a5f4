"""What a caller sees when something inside fails, is slow or is full."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import BESIDE_ANSWERS
from tests.api.conftest import Gateway, scripted, serve
from tests.running import eventually

HELLO = [{"role": "user", "content": "one two three four five six"}]
BODY: dict[str, Any] = {"model": "engram-demo", "messages": HELLO}


def post(gateway: Gateway, **fields: Any) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json=BODY | fields)


def events(response: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.text.splitlines() if line]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    engine = {"kind": "scripted", "extra_args": {"fail_after": 3}}
    with serve(scripted(tmp_path_factory.mktemp("failing"), engine=engine)) as gateway:
        yield gateway


def test_a_failure_after_the_first_byte_is_an_event_and_the_stream_ends(failing: Gateway) -> None:
    response = post(failing, stream=True)
    assert response.status_code == 200
    *_, error, done = events(response)
    assert json.loads(error)["error"]["code"] == "engine_failed"
    assert done == "[DONE]"


def test_a_failure_of_a_whole_answer_is_an_http_error(failing: Gateway) -> None:
    response = post(failing)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = scripted(
        tmp_path_factory.mktemp("slow"),
        engine={"kind": "scripted", "extra_args": {"ttft_s": 0.8, "itl_s": 0.4}},
        admission={"max_running": 1, "max_queued": 1, "deadline_s": 3},
    )
    with serve(settings) as gateway:
        yield gateway


def test_an_answer_over_its_deadline_is_ended(slow: Gateway) -> None:
    whole = post(slow)
    assert (whole.status_code, whole.json()["error"]["code"]) == (504, "deadline_exceeded")
    *_, error, done = events(post(slow, stream=True))
    assert json.loads(error)["error"]["code"] == "deadline_exceeded"
    assert done == "[DONE]"


async def test_what_does_not_fit_the_queue_is_refused_at_once(slow: Gateway) -> None:
    async with httpx.AsyncClient(headers=slow.http.headers, timeout=30) as client:
        url = f"{slow.url}/v1/chat/completions"
        body = BODY | {"max_tokens": 1}
        answers = await asyncio.gather(*(client.post(url, json=body) for _ in range(6)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 4
    for answer in refused:
        assert answer.json()["error"]["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answers].count(200) == 2


async def test_what_finds_no_room_is_refused_before_its_body_arrives(tmp_path: Path) -> None:
    """And its connection is good for the next one, whose answer is not taken for the first's."""
    settings = scripted(
        tmp_path,
        engine={"kind": "scripted", "extra_args": {"ttft_s": 1.0}},
        admission={"max_running": 1, "max_queued": 0},
    )
    with serve(settings) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        running = asyncio.create_task(asyncio.to_thread(post, gateway))
        await asyncio.to_thread(eventually, lambda: _are_running(gateway, 1), 10)
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: 300000\r\n"
            f"authorization: {gateway.http.headers['authorization']}\r\n\r\n"
        )
        writer.write(head.encode())
        refused = await asyncio.wait_for(_answer(reader), 10)
        assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: " in refused
        writer.write(b" " * 300_000 + b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await asyncio.wait_for(_answer(reader), 10)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert (await running).status_code == 200
        metrics = gateway.http.get(f"{gateway.url}/metrics").text
        assert 'endpoint="chat",mode="none",status="refused"' in metrics


async def test_an_upload_waits_for_slow_senders_longer_than_a_question_would(
    tmp_path: Path,
) -> None:
    form = {"content-type": "multipart/form-data; boundary=cut"}
    begin = b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    file = b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a.md"\r\n\r\n'
    goes_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield begin
        await goes_on.wait()
        yield file + b"Hi\r\n--cut--"

    with serve(scripted(tmp_path, admission={"max_wait_s": 0.1})) as gateway:
        async with httpx.AsyncClient(headers=gateway.http.headers, timeout=30) as client:

            def upload() -> asyncio.Task[httpx.Response]:
                url = f"{gateway.url}/v1/files"
                return asyncio.create_task(client.post(url, content=slowly(), headers=form))

            slow = [upload() for _ in range(BESIDE_ANSWERS)]
            await asyncio.to_thread(eventually, lambda: _are_running(gateway, BESIDE_ANSWERS), 10)
            slow.append(upload())
            await asyncio.sleep(0.3)
            goes_on.set()
            answers = await asyncio.wait_for(asyncio.gather(*slow), 20)
    assert [answer.status_code for answer in answers] == [200] * len(slow)


def _are_running(gateway: Gateway, count: int) -> bool:
    metrics = gateway.http.get(f"{gateway.url}/metrics").text
    return f"engram_requests_running {count}.0" in metrics


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return head + await reader.readexactly(int(length[1]))


async def test_a_client_that_goes_away_gives_its_slot_back(slow: Gateway) -> None:
    async with httpx.AsyncClient(headers=slow.http.headers, timeout=30) as client:
        url = f"{slow.url}/v1/chat/completions"
        async with client.stream("POST", url, json=BODY | {"stream": True}) as stream:
            await anext(stream.aiter_lines())
        for _ in range(200):
            metrics = (await client.get(f"{slow.url}/metrics")).text
            if "engram_requests_running 0.0" in metrics:
                break
            await asyncio.sleep(0.01)
        assert "engram_requests_running 0.0" in metrics
        assert "engram_requests_aborted_total 0.0" not in metrics


def test_each_key_may_make_so_many_requests_a_minute(tmp_path: Path) -> None:
    with serve(scripted(tmp_path, admission={"requests_per_minute": 2})) as gateway:
        assert [post(gateway).status_code for _ in range(3)] == [200, 200, 429]
        refused = post(gateway)
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1


class Collector(BaseHTTPRequestHandler):
    """Takes what OpenTelemetry sends."""

    bodies: list[bytes]
    arrived: threading.Event

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
        self.arrived.set()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_traces_are_sent_where_the_setting_says(tmp_path: Path) -> None:
    Collector.bodies, Collector.arrived = [], threading.Event()
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        with serve(scripted(tmp_path, telemetry={"otlp_endpoint": endpoint})) as gateway:
            post(gateway)
        assert Collector.arrived.wait(20)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    sent = b"".join(Collector.bodies)
    for name in (b"answer", b"admit", b"evidence", b"decide", b"prompt", b"generate"):
        assert name in sent
    assert b"one two three" not in sent

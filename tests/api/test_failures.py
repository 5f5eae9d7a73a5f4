"""What a caller sees when something inside fails, is slow or is full."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Gateway, scripted, serve

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

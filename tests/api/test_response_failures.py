"""What the Responses API refuses, and what a caller sees when something fails underneath."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Gateway, scripted, serve
from tests.api.responding import ASK, EVENT, WEATHER, responding
from tests.running import eventually

SEARCH: dict[str, Any] = {"type": "file_search", "vector_store_ids": ["vs_1"]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with responding(tmp_path_factory.mktemp("data")) as running:
        yield running


def message(content: Any, role: Any = "user") -> dict[str, Any]:
    return {"input": [{"role": role, "content": content}]}


def nested(levels: int) -> dict[str, Any]:
    return {"properties": nested(levels - 1)} if levels else {}


NO_WEIGHTS = {"embedding_weight": 0, "text_weight": 0}
SAME = {"type": "item_reference", "id": f"msg_{'0' * 36}"}
BAD: list[tuple[dict[str, Any], int, str | None]] = [
    ({"model": None}, 400, "model"),
    ({"model": 7}, 400, "model"),
    ({"model": "nobody"}, 404, "model"),
    ({"model": "helpdesk:fast"}, 400, "model"),
    ({"input": None}, 400, "input"),
    ({"input": ""}, 400, "input"),
    ({"input": []}, 400, "input"),
    ({"input": {"role": "user"}}, 400, "input"),
    ({"input": ["hi"]}, 400, "input[0]"),
    ({"input": [{}]}, 400, "input[0].id"),
    ({"input": [{"type": "web_search_call"}]}, 400, "input[0].type"),
    ({"input": [{"type": ["message"]}]}, 400, "input[0].type"),
    (message("hi", "boss"), 400, "input[0].role"),
    (message(None), 400, "input[0].content"),
    (message([{"type": "input_image"}]), 400, "input[0].content[0].type"),
    (message([{"type": "input_text"}]), 400, "input[0].content[0].text"),
    (message(["hi"]), 400, "input[0].content[0]"),
    ({"input": [{"type": "function_call", "call_id": "c"}]}, 400, "input[0].name"),
    ({"input": [{"role": "user", "content": "x", "id": 7}]}, 400, "input[0].id"),
    ({"previous_response_id": "resp_1"}, 404, "previous_response_id"),
    ({"previous_response_id": "\x00"}, 404, "previous_response_id"),
    ({"previous_response_id": 7}, 400, "previous_response_id"),
    ({"temperature": 9}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": -1}, 400, "top_p"),
    ({"top_logprobs": 21}, 400, "top_logprobs"),
    ({"max_output_tokens": 0}, 400, "max_output_tokens"),
    ({"max_output_tokens": True}, 400, "max_output_tokens"),
    ({"max_output_tokens": 5000}, 400, "input"),
    ({"store": "yes"}, 400, "store"),
    ({"stream": 1}, 400, "stream"),
    ({"stream_options": {"include_obfuscation": True}}, 400, "stream_options.include_obfuscation"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options.include_usage"),
    ({"metadata": {"a": 1}}, 400, "metadata.a"),
    ({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata"),
    ({"include": ["reasoning.encrypted_content"]}, 400, "include[0]"),
    ({"truncation": "middle"}, 400, "truncation"),
    ({"service_tier": "flex"}, 400, "service_tier"),
    ({"reasoning": {"effort": "enormous"}}, 400, "reasoning.effort"),
    ({"reasoning": {"summary": "auto"}}, 400, "reasoning.summary"),
    ({"text": {"format": {"type": "xml"}}}, 400, "text.format.type"),
    ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, 400, "text.format.schema"),
    ({"background": True}, 400, "background"),
    ({"conversation": "conv_1"}, 400, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, 400, "prompt"),
    ({"tempature": 1}, 400, "tempature"),
    ({"messages": []}, 400, "messages"),
    ({"tools": {}}, 400, "tools"),
    ({"tools": [7]}, 400, "tools[0].type"),
    ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type"),
    ({"tools": [SEARCH, SEARCH]}, 400, "tools[1]"),
    ({"tools": [{"type": "file_search"}]}, 400, "tools[0].vector_store_ids"),
    ({"tools": [{**SEARCH, "vector_store_ids": []}]}, 400, "tools[0].vector_store_ids"),
    ({"tools": [{**SEARCH, "max_num_results": 51}]}, 400, "tools[0].max_num_results"),
    ({"tools": [{**SEARCH, "top_k": 3}]}, 400, "tools[0].top_k"),
    (
        {"tools": [{**SEARCH, "ranking_options": {"score_threshold": 2}}]},
        400,
        "tools[0].ranking_options.score_threshold",
    ),
    ({"tools": [{"type": "function", "name": "a b"}]}, 400, "tools[0].name"),
    ({"tools": [{**WEATHER, "parameters": []}]}, 400, "tools[0].parameters"),
    ({"tools": [{**WEATHER, "parameters": nested(300)}]}, 400, None),
    ({"text": {"format": {"type": "json_schema", "schema": nested(300)}}}, 400, None),
    (
        {"tools": [{**SEARCH, "filters": {"type": "near", "key": "a", "value": 1}}]},
        400,
        "tools[0].filters",
    ),
    (
        {"tools": [{**SEARCH, "ranking_options": {"hybrid_search": NO_WEIGHTS}}]},
        400,
        "tools[0].ranking_options.hybrid_search",
    ),
    ({"input": [SAME, SAME]}, 400, "input[1].id"),
    ({"tools": [SEARCH], "model": "engram-demo"}, 404, "vector_store_id"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    ({"tool_choice": {"type": "file_search"}}, 400, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "weather"}}, 400, "tool_choice.name"),
    ({"tool_choice": {"type": "mcp"}}, 400, "tool_choice"),
    (
        {"model": "helpdesk:base", "tools": [SEARCH], "tool_choice": "required"},
        400,
        "tool_choice",
    ),
    ({"engram": {"mode": "fast"}}, 400, "engram.mode"),
    ({"engram": {"vector_store_ids": []}, "tools": [SEARCH]}, 400, "engram.vector_store_ids"),
]


@pytest.mark.parametrize(("change", "status", "param"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_refused_with_the_field(
    gateway: Gateway, change: dict[str, Any], status: int, param: str | None
) -> None:
    for stream in (False, True):
        sent = gateway.http.post("/v1/responses", json=ASK | {"stream": stream} | change)
        assert sent.status_code == status, sent.text
        assert sent.json()["error"]["param"] == param
        assert sent.headers["engram-request-id"]


def test_what_is_off_by_default_may_be_said(gateway: Gateway) -> None:
    off = {"background": False, "conversation": None, "prompt": None, "reasoning": None}
    assert gateway.http.post("/v1/responses", json=ASK | off).status_code == 200


def test_a_name_that_a_caller_made_up_is_not_echoed_whole(gateway: Gateway) -> None:
    for fields in ({"k" * 5000: 1}, {"metadata": {"k" * 5000: "v"}}, {"text": {"k" * 5000: 1}}):
        sent = gateway.http.post("/v1/responses", json=ASK | fields)
        assert (sent.status_code, len(sent.text) < 800) == (400, True)


def test_an_unknown_field_names_the_nearest(gateway: Gateway) -> None:
    sent = gateway.http.post("/v1/responses", json=ASK | {"max_output_token": 1})
    assert "did you mean 'max_output_tokens'" in sent.json()["error"]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.fixed_dictionaries({"type": st.just("input_text"), "text": JSON})
ITEMS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["message", "function_call", "function_call_output", "item_reference", "reasoning"]
            )
            | JSON,
            "role": st.sampled_from(["user", "assistant", "system"]) | JSON,
            "content": JSON | st.lists(PARTS),
            "call_id": JSON,
            "name": JSON,
            "arguments": JSON,
            "output": JSON,
            "id": JSON,
        },
    ),
    max_size=4,
)
FIELDS = {
    "input": st.text() | ITEMS | JSON,
    "instructions": st.text() | JSON,
    "previous_response_id": JSON,
    "tools": st.lists(st.sampled_from([SEARCH, WEATHER]) | JSON, max_size=3) | JSON,
    "tool_choice": st.sampled_from(["none", "auto", "required", {"type": "file_search"}]) | JSON,
    "text": st.fixed_dictionaries({"format": JSON}) | JSON,
    "metadata": st.dictionaries(st.text(), st.text()) | JSON,
    "include": JSON,
    "max_output_tokens": JSON,
    "temperature": JSON,
    "truncation": st.sampled_from(["auto", "disabled"]) | JSON,
    "stream": st.booleans() | JSON,
    "store": st.booleans() | JSON,
    "reasoning": JSON,
    "engram": JSON,
}


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.fixed_dictionaries({}, optional=FIELDS))
def test_no_body_is_too_much(gateway: Gateway, body: dict[str, Any]) -> None:
    sent = gateway.http.post("/v1/responses", content=json.dumps(ASK | body))
    assert sent.status_code in (200, 400, 404, 413), sent.text
    if sent.status_code != 200:
        assert sent.json()["error"]["type"] == "invalid_request_error"
    assert "response.failed" not in sent.text


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    id=st.text(min_size=1), query=st.dictionaries(st.sampled_from(["after", "limit"]), st.text())
)
def test_no_id_is_too_much(gateway: Gateway, id: str, query: dict[str, str]) -> None:
    name = quote(id, safe="")
    for path in (f"/v1/responses/{name}", f"/v1/responses/{name}/input_items"):
        sent = gateway.http.get(path, params=query, follow_redirects=True)
        assert sent.status_code in (400, 404, 405)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    engine = {"kind": "scripted", "extra_args": {"fail_after": 3}}
    with serve(scripted(tmp_path_factory.mktemp("failing"), engine=engine)) as gateway:
        yield gateway


PLAIN: dict[str, Any] = {"model": "engram-demo", "input": "one two three four five six"}


def test_a_failure_after_the_first_byte_is_the_last_event(failing: Gateway) -> None:
    sent = failing.http.post("/v1/responses", json=PLAIN | {"stream": True})
    assert sent.status_code == 200
    frames = [line[6:] for line in sent.text.splitlines() if line.startswith("data: ")]
    events = [EVENT.validate_json(frame) for frame in frames]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error.code == "server_error"
    assert last.response.engram["error_code"] == "engine_failed"
    [written] = last.response.output
    assert (written.status, last.response.output_text) == ("incomplete", "You said: one ")
    assert failing.client.responses.retrieve(last.response.id) == last.response


def test_a_failure_of_a_whole_answer_is_an_http_error(failing: Gateway) -> None:
    sent = failing.http.post("/v1/responses", json=PLAIN)
    assert (sent.status_code, sent.json()["error"]["code"]) == (500, "engine_failed")


def test_a_response_that_cannot_be_kept_has_failed(tmp_path: Path) -> None:
    with responding(tmp_path) as gateway:
        with closing(sqlite3.connect(tmp_path / "engram.sqlite")) as database:
            database.execute("DROP TABLE responses")

        def post(**fields: Any) -> httpx.Response:
            """Over a connection of its own: the server ends one where it found a bug."""
            url = f"{gateway.url}/v1/responses"
            return httpx.post(url, headers=gateway.http.headers, json=PLAIN | fields)

        whole = post()
        assert (whole.status_code, whole.json()["error"]["code"]) == (500, "internal_error")
        streamed = post(stream=True)
        last = json.loads(streamed.text.strip().splitlines()[-1].removeprefix("data: "))
        assert EVENT.validate_python(last).type == "response.failed"
        assert last["response"]["engram"]["error_code"] == "internal_error"
        assert post(store=False).status_code == 200


async def test_a_client_that_goes_away_gives_its_slot_back(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "extra_args": {"itl_s": 0.2}}
    with serve(scripted(tmp_path, engine=engine, admission={"max_running": 1})) as gateway:
        async with httpx.AsyncClient(headers=gateway.http.headers, timeout=30) as client:
            body = PLAIN | {"stream": True, "input": "word " * 500}
            async with client.stream("POST", f"{gateway.url}/v1/responses", json=body) as stream:
                lines = stream.aiter_lines()
                assert await anext(lines) == "event: response.created"
                created = json.loads((await anext(lines)).removeprefix("data: "))
            answer = await client.post(
                f"{gateway.url}/v1/responses", json=PLAIN | {"max_output_tokens": 1}
            )
            assert answer.status_code == 200
            gone = await client.get(f"{gateway.url}/v1/responses/{created['response']['id']}")
            assert gone.status_code == 404
            metrics = (await client.get(f"{gateway.url}/metrics")).text
    assert 'endpoint="responses",mode="base",status="cancelled"' in metrics


def test_overload_is_refused_before_the_conversation_is_read(tmp_path: Path) -> None:
    """A response that is not there would be 404, had anybody looked; so would an item."""
    settings = scripted(
        tmp_path,
        engine={"kind": "scripted", "extra_args": {"ttft_s": 2.0}},
        admission={"max_running": 1, "max_queued": 0},
    )
    reads: list[dict[str, Any]] = [
        {"previous_response_id": f"resp_{'0' * 32}"},
        {"input": [SAME, *message("hi")["input"]]},
    ]
    with serve(settings) as gateway, ThreadPoolExecutor() as pool:

        def ask(**fields: Any) -> httpx.Response:
            return gateway.http.post("/v1/responses", json=ASK | {"model": "engram-demo"} | fields)

        assert {ask(**fields).status_code for fields in reads} == {404}
        running = pool.submit(ask)
        eventually(lambda: ask(**reads[0]).status_code == 503, within_s=10)
        for fields in reads:
            refused = ask(**fields)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
        assert running.result().status_code == 200

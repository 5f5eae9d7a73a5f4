"""The answers API as an app sees it: the real `openai` SDK over a socket."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Gateway
from tests.running import eventually

LEAVE = "# Leave\n\n## Days\n\nEmployees of Larkfield receive 27 days of leave every year.\n"
QUESTION = "How many days of leave do employees of Larkfield receive every year?"


@pytest.fixture(scope="module", autouse=True)
def leave_document(gateway: Gateway) -> str:
    file = gateway.client.files.create(file=("leave.md", LEAVE.encode()), purpose="assistants")
    attached = gateway.client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=gateway.store, poll_interval_ms=20
    )
    assert attached.status == "completed"
    return file.id


def ask(gateway: Gateway, model: str, text: str = QUESTION, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return gateway.client.chat.completions.create(model=model, messages=messages, **fields)


def test_rag_answers_from_the_document_and_cites_it(gateway: Gateway, leave_document: str) -> None:
    answer = ask(gateway, "helpdesk:rag")
    message = answer.choices[0].message
    assert "27 days of leave" in message.content
    citation = message.annotations[-1]
    assert citation.index == len(message.content)
    assert (citation.type, citation.file_id) == ("file_citation", leave_document)
    assert citation.filename == "leave.md"
    assert answer.engram["mode"] == "rag"
    assert answer.engram["sources"][0]["filename"] == "leave.md"
    assert answer.usage.total_tokens > 0


def test_base_sees_no_document(gateway: Gateway) -> None:
    answer = ask(gateway, "helpdesk:base")
    assert "27" not in answer.choices[0].message.content
    assert answer.engram["sources"] == []


def test_auto_retrieves_for_a_covered_question_and_not_for_small_talk(gateway: Gateway) -> None:
    assert ask(gateway, "helpdesk").engram["mode"] == "rag"
    smalltalk = ask(gateway, "helpdesk", "Hello!").engram
    assert smalltalk["mode"] == "base"
    assert "small talk" in smalltalk["reason"]


def test_the_engram_field_chooses_the_mode(gateway: Gateway) -> None:
    chosen = ask(gateway, "helpdesk", extra_body={"engram": {"mode": "base"}}).engram
    assert chosen["mode"] == "base"
    assert chosen["reason"] == "the request asked for base"


def test_documents_sent_with_the_question_are_read(gateway: Gateway) -> None:
    documents = [{"text": "The gate code of Copper Heron is KV-482.", "title": "Gates"}]
    answer = ask(
        gateway,
        "engram-demo",
        "What is the gate code of Copper Heron?",
        extra_body={"engram": {"mode": "rag", "documents": documents}},
    )
    assert "KV-482" in answer.choices[0].message.content
    assert answer.choices[0].message.annotations[0].file_id == "document-1"


def test_a_stream_says_the_same_as_the_whole_answer(gateway: Gateway) -> None:
    whole = ask(gateway, "helpdesk:rag")
    chunks = list(ask(gateway, "helpdesk:rag", stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    annotations = [
        a for c in chunks if c.choices for a in getattr(c.choices[0].delta, "annotations", ())
    ]
    assert annotations == [
        a.model_dump(exclude_none=True) for a in whole.choices[0].message.annotations
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].engram["mode"] == "rag"
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:].count("stop") == 1


def test_several_choices_are_streamed_with_their_index(gateway: Gateway) -> None:
    whole = ask(gateway, "engram-demo", "one two three", n=2)
    assert [choice.index for choice in whole.choices] == [0, 1]
    roles = [
        choice.delta.role
        for chunk in ask(gateway, "engram-demo", "one two three", n=2, stream=True)
        for choice in chunk.choices
        if choice.delta.role
    ]
    assert roles == ["assistant", "assistant"]


def test_completions_answer_whole_and_streamed(gateway: Gateway) -> None:
    create = gateway.client.completions.create
    whole = create(model="helpdesk:rag", prompt=QUESTION).choices[0].text
    assert "27 days" in whole
    chunks = create(model="helpdesk:rag", prompt=QUESTION, stream=True)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole


def test_headers_say_what_was_chosen(gateway: Gateway) -> None:
    raw = gateway.client.chat.completions.with_raw_response.create(
        model="helpdesk:rag", messages=[{"role": "user", "content": QUESTION}]
    )
    assert raw.headers["engram-mode"] == "rag"
    assert raw.headers["engram-request-id"].startswith("req-")
    assert "retrieval;dur=" in raw.headers["server-timing"]


def test_a_decision_can_be_explained_afterwards(gateway: Gateway) -> None:
    engram = ask(gateway, "helpdesk").engram
    path = f"/admin/decisions/{engram['request_id']}"
    eventually(lambda: gateway.http.get(path).is_success, within_s=20)
    record = gateway.http.get(path).json()
    assert record["mode"] == "rag"
    assert record["reason"] == engram["reason"]
    assert record["evidence"]["best_score"] == engram["evidence"]["best_score"]
    assert QUESTION not in json.dumps(record)


BAD = [
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"model": "helpdesk:fast"}, 400, "invalid_value", "model"),
    ({"model": "helpdesk:fine_tuned"}, 400, "invalid_value", "engram.mode"),
    ({"model": "nobody@1"}, 404, "model_not_found", None),
    ({"model": None}, 400, "invalid_value", "model"),
    ({"messages": []}, 400, "invalid_value", "messages"),
    ({"messages": "hi"}, 400, "invalid_value", "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, 400, "invalid_value", "messages[0].content"),
    ({"temperature": 9}, 400, "invalid_value", "temperature"),
    ({"tempature": 1}, 400, "invalid_value", "tempature"),
    ({"stream": "yes"}, 400, "invalid_value", "stream"),
    ({"engram": {"mode": "fast"}}, 400, "invalid_value", "engram.mode"),
    ({"engram": {"mod": "rag"}}, 400, "invalid_value", "engram.mod"),
    ({"engram": {"max_num_results": 0}}, 400, "invalid_value", "engram.max_num_results"),
    ({"max_tokens": 5000}, 400, "context_length_exceeded", None),
    ({"messages": [{"role": "user", "content": "word " * 1500}]}, 400, None, None),
]


@pytest.mark.parametrize(("change", "status", "code", "param"), BAD)
def test_bad_input_is_refused_with_the_field(
    gateway: Gateway, change: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]} | change
    response = gateway.http.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert code is None or error["code"] == code
    assert param is None or error["param"] == param
    assert response.headers["engram-request-id"]
    streamed = gateway.http.post("/v1/chat/completions", json={"stream": True} | body)
    assert streamed.status_code == status


def test_a_prompt_that_is_too_long_states_limit_and_length(gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError, match=r"1500[^0-9].*1024|1024.*1500") as refused:
        ask(gateway, "engram-demo", "word " * 1500)
    assert refused.value.code == "context_length_exceeded"


def test_bad_json_and_big_bodies_are_refused(gateway: Gateway) -> None:
    post = gateway.http.post
    assert post("/v1/chat/completions", content=b"{").status_code == 400
    assert post("/v1/chat/completions", content=b"[]").status_code == 400
    big = post("/v1/chat/completions", content=b"x" * 30_000)
    assert big.status_code == 413
    assert big.json()["error"]["code"] == "request_too_large"


def test_another_tenants_store_looks_like_none(gateway: Gateway) -> None:
    body = {
        "model": "engram-demo",
        "messages": [{"role": "user", "content": QUESTION}],
        "engram": {"mode": "rag", "vector_store_ids": [gateway.store]},
    }
    theirs = gateway.rival.post("/v1/chat/completions", json=body)
    body["engram"]["vector_store_ids"] = ["vs_none"]  # type: ignore[index]
    none = gateway.rival.post("/v1/chat/completions", json=body)
    assert theirs.status_code == none.status_code == 404
    assert theirs.text.replace(gateway.store, "X") == none.text.replace("vs_none", "X")


@pytest.mark.parametrize("path", ["/v1/models", "/", "/openapi.json", "/admin/usage", "/nothing"])
def test_nothing_but_health_and_metrics_is_open(gateway: Gateway, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic x"}):
        response = httpx.get(gateway.url + path, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
    for open_path in ("/livez", "/readyz", "/metrics"):
        assert httpx.get(gateway.url + open_path).status_code == 200


def test_metrics_count_what_was_answered(gateway: Gateway) -> None:
    ask(gateway, "helpdesk:rag")
    metrics = httpx.get(gateway.url + "/metrics").text
    assert 'engram_decisions_total{chosen_by="request",mode="rag"}' in metrics
    for name in ("time_to_first_token", "inter_token", "retrieval_stage"):
        assert f"engram_{name}_seconds_bucket" in metrics
    assert "engram_requests_running 0.0" in metrics


def test_no_id_comes_twice_though_the_model_seeds_what_is_random(gateway: Gateway) -> None:
    ids = set()
    for _ in range(2):
        random.seed(0)
        found = gateway.http.get("/v1/models/none")
        ids.add(found.headers["engram-request-id"])
    assert len(ids) == 2

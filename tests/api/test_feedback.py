"""Votes on answers: one for each, with what was said where it is known, and who said it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Gateway, scripted, serve
from tests.tiny_model import write_adapter

UNKNOWN = "chatcmpl-" + "0" * 32


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = scripted(tmp_path_factory.mktemp("data"))
    write_adapter(settings.adapters / "acme" / "tuned@1")
    with serve(settings) as running:
        yield running


def ask(gateway: Gateway, text: str = "Hello there", **more: Any) -> str:
    body = {"model": "engram-demo", "messages": [{"role": "user", "content": text}]} | more
    answer = gateway.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def vote(gateway: Gateway, response_id: str, rating: str = "up", **more: Any) -> dict[str, Any]:
    body = {"response_id": response_id, "rating": rating} | more
    answer = gateway.http.post("/admin/feedback", json=body)
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


def test_a_vote_on_a_stored_chat_knows_what_was_said_and_who_answered(gateway: Gateway) -> None:
    id = ask(gateway, store=True, model="tuned@1")
    kept = vote(gateway, id, "down", better_answer="Good day.", comment="too short")
    assert kept["messages"] == [{"role": "user", "content": "Hello there"}]
    assert kept["answer"].endswith("tuned@1 says: You said: Hello there")
    assert (kept["adapter"], kept["mode"]) == ("tuned@1", "fine_tuned")
    assert kept["request_id"] == id.replace("chatcmpl-", "req-")
    assert gateway.http.get(f"/admin/feedback/{id}").json() == kept


def test_a_vote_on_a_response_knows_the_conversation_before_it(gateway: Gateway) -> None:
    create = gateway.client.responses.create
    first = create(model="helpdesk", input="One")
    second = create(
        model="helpdesk", input="Two", previous_response_id=first.id, instructions="Be brief."
    )
    kept = vote(gateway, second.id)
    assert [(m["role"], m["content"]) for m in kept["messages"]] == [
        ("system", "Be brief."),
        ("user", "One"),
        ("assistant", first.output_text),
        ("user", "Two"),
    ]
    assert (kept["answer"], kept["assistant"]) == (second.output_text, "helpdesk")


def test_a_vote_on_an_answer_that_was_not_stored_is_bare(gateway: Gateway) -> None:
    kept = vote(gateway, ask(gateway))
    assert (kept["messages"], kept["answer"], kept["mode"]) == (None, None, "base")


def test_what_was_said_may_come_with_the_vote(gateway: Gateway) -> None:
    said = {"messages": [{"role": "user", "content": "Hi"}], "answer": "Yes?"}
    kept = vote(gateway, ask(gateway), "down", **said)
    assert (kept["messages"], kept["answer"]) == (said["messages"], "Yes?")


def test_a_second_vote_replaces_the_first_by_whichever_id(gateway: Gateway) -> None:
    id = ask(gateway, store=True)
    vote(gateway, id, "up")
    kept = vote(gateway, id.replace("chatcmpl-", "req-"), "down")
    assert kept["answer"] == "You said: Hello there"
    listed = gateway.http.get("/admin/feedback", params={"limit": 100}).json()["data"]
    assert [v["rating"] for v in listed if v["request_id"] == kept["request_id"]] == ["down"]


def test_lists_have_pages_and_filters(gateway: Gateway) -> None:
    ids = [ask(gateway, model="tuned@1") for _ in range(3)]
    for number, id in enumerate(ids):
        vote(gateway, id, "down" if number else "up")

    def listed(**params: Any) -> list[str]:
        page = gateway.http.get("/admin/feedback", params={"adapter": "tuned@1"} | params).json()
        return [one["id"] for one in page["data"]]

    assert set(ids) <= set(listed())
    assert ids[0] not in listed(rating="down") and set(ids[1:]) <= set(listed(rating="down"))
    assert listed(assistant="nobody") == listed(mode="rag") == []
    everything = listed(limit=100)
    first = listed(limit=2)
    assert [*first, *listed(after=first[-1], limit=100)] == everything


def test_another_tenant_neither_votes_nor_sees(gateway: Gateway) -> None:
    id = ask(gateway)
    foreign = gateway.rival.post("/admin/feedback", json={"response_id": id, "rating": "up"})
    assert (foreign.status_code, foreign.json()["error"]["param"]) == (404, "response_id")
    vote(gateway, id)
    assert gateway.rival.get(f"/admin/feedback/{id}").status_code == 404
    assert gateway.rival.delete(f"/admin/feedback/{id}").status_code == 404
    assert gateway.rival.get("/admin/feedback").json()["data"] == []


def test_votes_are_counted_in_the_outcomes_of_their_version(gateway: Gateway) -> None:
    body = {"adapter": "tuned@1", "vector_stores": []}
    gateway.http.put("/admin/assistants/rated", json=body).raise_for_status()
    for rating in ("up", "down", "down"):
        vote(gateway, ask(gateway, model="rated:fine_tuned"), rating)
    [outcome] = gateway.http.get("/admin/assistants/rated/outcomes").json()["data"]
    assert outcome["adapter"] == "tuned@1"
    assert (outcome["thumbs_up"], outcome["thumbs_down"]) == (1, 2)


def test_a_deleted_vote_is_gone(gateway: Gateway) -> None:
    id = ask(gateway)
    vote(gateway, id)
    assert gateway.http.delete(f"/admin/feedback/{id}").json()["deleted"] is True
    assert gateway.http.get(f"/admin/feedback/{id}").status_code == 404
    assert gateway.http.delete(f"/admin/feedback/{id}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"response_id": UNKNOWN}, 404, "response_id"),
        ({"response_id": "42"}, 400, "response_id"),
        ({"response_id": None}, 400, "response_id"),
        ({"rating": "great"}, 400, "rating"),
        ({"rating": None}, 400, "rating"),
        ({"stars": 5}, 400, "stars"),
        ({"comment": "x" * 4001}, 400, "comment"),
        ({"better_answer": "x"}, 400, None),
        ({"better_answer": "", "rating": "down"}, 400, "better_answer"),
        ({"answer": "x"}, 400, None),
        ({"answer": "x", "messages": []}, 400, "messages"),
        ({"answer": "x", "messages": [{"role": "owl"}]}, 400, "messages[0].role"),
        ({"answer": "\x00", "messages": [{"role": "user", "content": "x"}]}, 400, None),
    ],
)
def test_malformed_votes_are_named(
    gateway: Gateway, fields: dict[str, Any], status: int, param: str | None
) -> None:
    body = {"response_id": ask(gateway), "rating": "up"} | fields
    answer = gateway.http.post("/admin/feedback", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_an_error_cannot_be_voted_on(gateway: Gateway) -> None:
    refused = gateway.http.post(
        "/v1/chat/completions",
        json={"model": "nobody", "messages": [{"role": "user", "content": "x"}]},
    )
    body = {"response_id": refused.headers["engram-request-id"], "rating": "down"}
    answer = gateway.http.post("/admin/feedback", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_id")


@pytest.mark.parametrize("params", [{"rating": "1"}, {"stars": "5"}, {"limit": "0"}])
def test_malformed_lists_are_named(gateway: Gateway, params: dict[str, str]) -> None:
    answer = gateway.http.get("/admin/feedback", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(params)))

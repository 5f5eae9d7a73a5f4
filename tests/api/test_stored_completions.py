"""Chats are kept when `store` says so and never otherwise, each for its tenant alone."""

from __future__ import annotations

import openai
import pytest

from tests.api.conftest import Gateway

MESSAGES = [{"role": "user", "content": "Hello there"}]
ASK = {"model": "engram-demo", "messages": MESSAGES}


def test_a_stored_completion_comes_back_as_it_was_answered(gateway: Gateway) -> None:
    completions = gateway.client.chat.completions
    made = completions.create(**ASK, store=True, metadata={"team": "desk"})  # type: ignore[call-overload]
    kept = completions.retrieve(made.id)
    assert (kept.id, kept.choices, kept.usage) == (made.id, made.choices, made.usage)
    assert kept.metadata == {"team": "desk"}
    said = completions.messages.list(made.id).data
    assert [(m.role, m.content) for m in said] == [("user", "Hello there")]


def test_a_streamed_one_is_there_when_its_last_event_is(gateway: Gateway) -> None:
    stream = gateway.client.chat.completions.create(
        **ASK, store=True, stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    *_, last = stream
    kept = gateway.client.chat.completions.retrieve(last.id)
    assert kept.choices[0].message.content == "You said: Hello there"
    assert kept.usage == last.usage


@pytest.mark.parametrize("more", [{}, {"store": False}, {"store": None}])
def test_nothing_is_kept_unless_asked_for(gateway: Gateway, more: dict[str, object]) -> None:
    made = gateway.client.chat.completions.create(**ASK, **more)  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError, match="No such stored completion"):
        gateway.client.chat.completions.retrieve(made.id)


def test_another_tenant_sees_none(gateway: Gateway) -> None:
    made = gateway.client.chat.completions.create(**ASK, store=True)  # type: ignore[call-overload]
    path = f"/v1/chat/completions/{made.id}"
    assert gateway.rival.get(path).status_code == 404
    assert gateway.rival.delete(path).status_code == 404
    assert gateway.rival.get("/v1/chat/completions").json()["data"] == []
    assert gateway.http.get(path).status_code == 200


def test_list_update_and_delete(gateway: Gateway) -> None:
    completions = gateway.client.chat.completions
    ids = [
        completions.create(**ASK, store=True, metadata={"batch": "7", "n": str(n)}).id  # type: ignore[call-overload]
        for n in range(3)
    ]
    listed = completions.list(metadata={"batch": "7"}, order="asc", limit=2)
    assert sorted(one.id for one in listed) == sorted(ids)
    assert completions.list(model="another", metadata={"batch": "7"}).data == []
    completions.update(ids[0], metadata={"batch": "8"})
    assert [one.id for one in completions.list(metadata={"batch": "8"})] == [ids[0]]
    assert completions.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        completions.retrieve(ids[0])


def test_kept_chats_and_kept_responses_do_not_mix(gateway: Gateway) -> None:
    made = gateway.client.chat.completions.create(**ASK, store=True)  # type: ignore[call-overload]
    assert gateway.http.get(f"/v1/responses/{made.id}").status_code == 404
    response = gateway.client.responses.create(model="engram-demo", input="Hello")
    assert gateway.http.get(f"/v1/chat/completions/{response.id}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": "yes"}, "store"),
        ({"store": True, "metadata": {"a": 1}}, "metadata.a"),
        ({"store": True, "metadata": {"a": "x" * 600}}, "metadata.a"),
        ({"store": True, "metadata": {"a": "\x00"}}, None),
    ],
)
def test_malformed_wishes_are_named(
    gateway: Gateway, fields: dict[str, object], param: str
) -> None:
    answer = gateway.http.post("/v1/chat/completions", json=ASK | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

"""Kept responses: continued, listed, deleted, and never seen by another tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from serving.api.responses_items import chat_messages
from tests.api.conftest import Gateway
from tests.api.responding import ASK, ITEM, TEXT, WEATHER, responding

HISTORY: dict[str, Any] = {"model": "engram-demo", "input": "history"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with responding(tmp_path_factory.mktemp("data")) as running:
        yield running


def create(gateway: Gateway, **fields: Any) -> Response:
    response: Response = gateway.client.responses.create(**fields)
    return response


def said(response: Response) -> list[Any]:
    """What the model saw, which it repeats when asked for its `history`."""
    turns: list[Any] = json.loads(response.output_text)
    return turns


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_response_comes_back_as_it_was_answered(gateway: Gateway, stream: bool) -> None:
    if stream:
        *_, last = gateway.client.responses.create(**ASK, stream=True)
        assert last.type == "response.completed"
        answered = last.response
    else:
        answered = create(gateway, **ASK)
    assert gateway.client.responses.retrieve(answered.id) == answered


def test_a_response_continues_another(gateway: Gateway) -> None:
    first = create(gateway, **ASK, instructions="Only for this turn.")
    second = create(gateway, model="engram-demo", input="One", previous_response_id=first.id)
    third = create(gateway, **HISTORY, previous_response_id=second.id)
    assert third.previous_response_id == second.id
    turns = [["user", ASK["input"]], ["assistant", TEXT], ["user", "One"]]
    assert said(third) == [*turns, ["assistant", "You said: One"], ["user", "history"]]


def test_a_follow_up_is_searched_together_with_the_question_before(gateway: Gateway) -> None:
    first = create(gateway, **ASK)
    second = create(gateway, model="helpdesk", input="And why?", previous_response_id=first.id)
    call = second.output[0]
    assert call.type == "file_search_call"
    assert call.queries == [f"{ASK['input']}\nAnd why?"]


def test_a_tool_answers_over_two_turns(gateway: Gateway) -> None:
    asked: dict[str, Any] = {"model": "engram-demo", "tools": [WEATHER]}
    first = create(gateway, **asked, input="weather?")
    outputs: Any = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = create(gateway, **asked, input=outputs, previous_response_id=first.id)
    assert second.output_text == "The tool says sunny."
    third = create(gateway, **HISTORY, previous_response_id=second.id)
    assert [role for role, _ in said(third)] == [
        *("user", "assistant", "tool", "tool", "assistant", "user"),
    ]


def test_a_tool_answers_without_storage(gateway: Gateway) -> None:
    asked: dict[str, Any] = {"model": "engram-demo", "tools": [WEATHER], "store": False}
    items: list[Any] = [{"role": "user", "content": "weather?"}]
    first = create(gateway, **asked, input=items)
    items += first.output
    items += [
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "rainy"}],
        },
    ]
    assert create(gateway, **asked, input=items).output_text == "The tool says rainy."


def test_output_with_a_search_can_be_handed_back(gateway: Gateway) -> None:
    items: list[Any] = [{"role": "user", "content": ASK["input"]}]
    items += create(gateway, model="helpdesk", input=items).output
    items += create(gateway, model="engram-demo", input="think").output
    again = create(gateway, model="engram-demo", input=[*items, *HISTORY_ITEM])
    turns = [["user", ASK["input"]], ["assistant", TEXT], ["assistant", "Done."]]
    assert said(again) == [*turns, ["user", "history"]]


HISTORY_ITEM: list[Any] = [{"type": "message", "role": "user", "content": "history"}]


def test_the_output_of_a_call_that_nobody_made_is_refused(gateway: Gateway) -> None:
    output: Any = [{"type": "function_call_output", "call_id": "call_9", "output": "?"}]
    with pytest.raises(openai.BadRequestError, match="call_9") as refused:
        create(gateway, model="engram-demo", input=output)
    assert refused.value.param == "input[0].call_id"


def test_items_are_named_by_their_ids(gateway: Gateway) -> None:
    first = create(gateway, **ASK)
    [question] = gateway.client.responses.input_items.list(first.id)
    references: list[Any] = [
        {"type": "item_reference", "id": question.id},
        {"id": first.output[1].id},
    ]
    second = create(gateway, model="engram-demo", input=[*references, *HISTORY_ITEM])
    assert said(second)[:2] == [["user", ASK["input"]], ["assistant", TEXT]]
    for unknown in (f"msg_{'0' * 36}", "msg_1"):
        with pytest.raises(openai.NotFoundError) as refused:
            create(gateway, model="engram-demo", input=[{"type": "item_reference", "id": unknown}])
        assert refused.value.param == "input[0].id"


def test_input_items_are_listed_in_pages(gateway: Gateway) -> None:
    texts = [f"number {n}" for n in range(5)]
    items: list[Any] = [{"role": "user", "content": text} for text in texts]
    items += [
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        {"role": "assistant", "content": "So it is."},
    ]
    response = create(gateway, model="engram-demo", input=items)
    listed = gateway.client.responses.input_items.list
    everything = list(listed(response.id, order="asc", limit=3))
    kinds = [ITEM.validate_python(item.to_dict()).type for item in everything]
    assert kinds == [*["message"] * 5, "function_call", "function_call_output", "message"]
    assert len({item.id for item in everything}) == len(items)
    assert [item.id for item in listed(response.id)] == [item.id for item in everything[::-1]]
    page = listed(response.id, limit=2, after=everything[6].id)
    assert [item.id for item in page.data] == [everything[5].id, everything[4].id]
    path = f"/v1/responses/{response.id}/input_items"
    for query in (
        {"limit": "0"},
        {"order": "up"},
        {"after": "msg_1"},
        {"before": everything[0].id or ""},
    ):
        refused = gateway.http.get(path, params=query)
        status = 404 if "after" in query else 400
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, *query)


def test_passages_are_not_kept_beside_their_files(gateway: Gateway) -> None:
    answered = create(gateway, **ASK, include=["file_search_call.results"])
    kept = gateway.client.responses.retrieve(answered.id)
    before, after = answered.output[0], kept.output[0]
    assert before.type == after.type == "file_search_call"
    assert before.results is not None
    assert after.results is not None
    assert before.results[0].text == "Employees of Larkfield receive 27 days of leave every year."
    assert after.results[0].text is None
    assert before.results[0].file_id == after.results[0].file_id
    assert kept.output_text == answered.output_text


@pytest.mark.parametrize("written", ['{"town": "Par', "Paris", '["Paris"]'])
def test_a_call_that_was_written_badly_does_not_end_the_conversation(written: str) -> None:
    """Engines refuse arguments that are no object."""
    fields = {"call_id": "c", "name": "weather", "arguments": written}
    [message] = chat_messages([{"type": "function_call", **fields}])
    seen = json.loads(message["tool_calls"][0]["function"]["arguments"])
    assert seen == {"arguments": written}


def test_what_is_not_stored_is_not_there(gateway: Gateway) -> None:
    response = create(gateway, **ASK, store=False)
    assert response.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        gateway.client.responses.retrieve(response.id)


def test_a_deleted_response_is_gone_and_the_conversation_goes_on(gateway: Gateway) -> None:
    first = create(gateway, model="engram-demo", input="One")
    second = create(gateway, model="engram-demo", input="Two", previous_response_id=first.id)
    third = create(gateway, model="engram-demo", input="Three", previous_response_id=second.id)
    gateway.client.responses.delete(second.id)
    for call in (
        lambda: gateway.client.responses.retrieve(second.id),
        lambda: gateway.client.responses.delete(second.id),
        lambda: gateway.client.responses.input_items.list(second.id),
        lambda: create(gateway, **HISTORY, previous_response_id=second.id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    users = [text for role, text in said(create(gateway, **HISTORY, previous_response_id=third.id))]
    assert users == ["One", "You said: One", "Three", "You said: Three", "history"]


def test_an_answer_in_the_foreground_cannot_be_cancelled(gateway: Gateway) -> None:
    response = create(gateway, **ASK)
    with pytest.raises(openai.BadRequestError, match="background"):
        gateway.client.responses.cancel(response.id)
    with pytest.raises(openai.NotFoundError):
        gateway.client.responses.cancel("resp_1")


def test_a_kept_response_is_not_streamed_again(gateway: Gateway) -> None:
    response = create(gateway, **ASK)
    with pytest.raises(openai.BadRequestError) as refused:
        gateway.client.responses.retrieve(response.id, stream=True)
    assert refused.value.param == "stream"


def test_another_tenants_response_looks_like_none(gateway: Gateway) -> None:
    response = create(gateway, **ASK)
    unknown = f"resp_{'0' * 32}"
    item, no_item = response.output[1].id, f"msg_{'0' * 36}"

    def anonymous(text: str) -> str:
        return text.replace(response.id, unknown).replace(item or "?", no_item)

    def ask(**fields: Any) -> tuple[str, str, dict[str, Any] | None]:
        return "POST", "/v1/responses", {"model": "engram-demo", "input": "x"} | fields

    for theirs, none in (
        (("GET", f"/v1/responses/{response.id}", None), ("GET", f"/v1/responses/{unknown}", None)),
        (
            ("DELETE", f"/v1/responses/{response.id}", None),
            ("DELETE", f"/v1/responses/{unknown}", None),
        ),
        (
            ("GET", f"/v1/responses/{response.id}/input_items", None),
            ("GET", f"/v1/responses/{unknown}/input_items", None),
        ),
        (
            ("POST", f"/v1/responses/{response.id}/cancel", None),
            ("POST", f"/v1/responses/{unknown}/cancel", None),
        ),
        (ask(previous_response_id=response.id), ask(previous_response_id=unknown)),
        (ask(input=[{"id": item}]), ask(input=[{"id": no_item}])),
    ):
        foreign, missing = (
            gateway.rival.request(method, path, json=body) for method, path, body in (theirs, none)
        )
        assert foreign.status_code == missing.status_code == 404
        assert (
            foreign.text.replace(response.id, unknown).replace(item or "", no_item) == missing.text
        )
    assert gateway.client.responses.retrieve(response.id) == response


def test_another_tenants_store_is_not_searched(gateway: Gateway) -> None:
    tool = {"type": "file_search", "vector_store_ids": [gateway.store]}
    body = {"model": "engram-demo", "input": ASK["input"], "tools": [tool]}
    assert gateway.rival.post("/v1/responses", json=body).status_code == 404


def test_the_oldest_turns_go_where_they_may(gateway: Gateway) -> None:
    last = None
    for number in range(5):
        text = f"{number} " + "word " * 90
        response = create(gateway, model="engram-demo", input=text, previous_response_id=last)
        last = response.id
    asked: dict[str, Any] = {**HISTORY, "previous_response_id": last, "max_output_tokens": 500}
    with pytest.raises(openai.BadRequestError) as refused:
        create(gateway, **asked)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "input"
    kept = create(gateway, **asked, truncation="auto")
    assert kept.truncation == "auto"
    assert kept.usage is not None
    assert 300 < kept.usage.input_tokens <= 1024 - 500

"""The Responses API as an app sees it: the real `openai` SDK, every event checked by its types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from openai.types.responses.file_search_tool_param import FileSearchToolParam
from pydantic import BaseModel

from tests.api.conftest import Gateway
from tests.api.responding import (
    ASK,
    ITEM,
    QUESTION,
    TEXT,
    WEATHER,
    create,
    events,
    kinds,
    responding,
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with responding(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def search(gateway: Gateway) -> FileSearchToolParam:
    return {"type": "file_search", "vector_store_ids": [gateway.store]}


SEARCHED = [
    "output_item.added",
    "file_search_call.in_progress",
    "file_search_call.searching",
    "file_search_call.completed",
    "output_item.done",
]
BEGUN = ["created", "in_progress"]
MESSAGE = ["output_item.added", "content_part.added", "output_text.delta"]
ENDED = ["output_text.done", "content_part.done", "output_item.done"]


def test_an_answer_cites_the_assistants_own_documents(gateway: Gateway) -> None:
    response = create(gateway)
    assert response.status == "completed"
    assert response.output_text == TEXT
    searched, message = response.output
    assert searched.type == "file_search_call"
    assert (searched.status, searched.queries, searched.results) == ("completed", [QUESTION], None)
    assert message.type == "message"
    [part] = message.content
    assert part.type == "output_text"
    cited = part.annotations[-1]
    assert cited.type == "file_citation"
    [file] = gateway.client.files.list()
    assert (cited.file_id, cited.filename, cited.index) == (file.id, "leave.md", len(TEXT))
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + 14
    assert response.usage.input_tokens_details.cached_tokens == 0
    assert (response.model_extra or {})["engram"]["mode"] == "rag"


def test_events_come_in_openais_order(gateway: Gateway, search: FileSearchToolParam) -> None:
    found = events(gateway, tools=[search])
    texts = ["output_text.delta", "output_text.annotation.added"] * 2
    expected = [*BEGUN, *SEARCHED, *MESSAGE, *texts[1:], *ENDED, "completed"]
    assert kinds(found) == expected
    deltas = [e["delta"] for e in found if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    added = [e for e in found if e["type"] == "response.output_text.annotation.added"]
    assert [e["annotation_index"] for e in added] == [0, 1]
    part = found[-1]["response"]["output"][1]["content"][0]
    assert part["annotations"] == [e["annotation"] for e in added]
    assert found[0]["response"]["output"] == []
    assert found[0]["response"]["engram"]["mode"] == "rag"


def engram(response: Response) -> dict[str, Any]:
    field: dict[str, Any] = (response.model_extra or {})["engram"]
    return field


def searched(response: Response) -> bool:
    return response.output[0].type == "file_search_call"


def test_file_search_searches_the_stores_it_names(
    gateway: Gateway, search: FileSearchToolParam
) -> None:
    response = create(
        gateway, model="engram-demo", tools=[search], include=["file_search_call.results"]
    )
    assert response.output_text == TEXT
    call = response.output[0]
    assert call.type == "file_search_call"
    assert call.results is not None
    [result] = call.results
    assert result.text == "Employees of Larkfield receive 27 days of leave every year."
    assert (result.filename, result.attributes) == ("leave.md", {"team": "people"})
    assert result.score == pytest.approx(engram(response)["sources"][0]["score"])


CASES = [
    # model, tool_choice, question, mode
    ("helpdesk", "auto", QUESTION, "rag"),
    ("helpdesk", "auto", "Hello!", "base"),
    ("helpdesk", "required", "Hello!", "rag"),
    ("helpdesk", {"type": "file_search"}, "Hello!", "rag"),
    ("helpdesk", "none", QUESTION, "base"),
    ("engram-demo", "auto", QUESTION, "rag"),
    ("engram-demo", "auto", "Hello!", "base"),
    ("engram-demo", "required", "Hello!", "rag"),
    ("helpdesk:base", "auto", QUESTION, "base"),
    ("helpdesk:rag", "auto", "Hello!", "rag"),
    ("tuned@1", "auto", QUESTION, "hybrid"),
    ("tuned@1", "required", QUESTION, "hybrid"),
    ("tuned@1", "none", QUESTION, "fine_tuned"),
]


@pytest.mark.parametrize(("model", "choice", "question", "mode"), CASES)
def test_the_policy_decides_about_the_search_unless_it_is_told(
    gateway: Gateway,
    search: FileSearchToolParam,
    model: str,
    choice: Any,
    question: str,
    mode: str,
) -> None:
    body = {"model": model, "input": question, "tools": [search], "tool_choice": choice}
    sent = gateway.http.post("/v1/responses", json=body)
    response = Response.model_validate_json(sent.content)
    assert engram(response)["mode"] == sent.headers["engram-mode"] == mode
    assert searched(response) == (mode in ("rag", "hybrid"))


def test_filters_and_ranking_options_reach_the_search(
    gateway: Gateway, search: FileSearchToolParam
) -> None:
    def sources(**more: Any) -> int:
        tool = {**search, **more}
        return len(engram(create(gateway, tools=[tool], tool_choice="required"))["sources"])

    assert sources() == 1
    assert sources(filters={"type": "eq", "key": "team", "value": "people"}) == 1
    assert sources(filters={"type": "eq", "key": "team", "value": "offices"}) == 0
    assert sources(ranking_options={"ranker": "auto", "score_threshold": 0.2}) == 1
    assert sources(ranking_options={"score_threshold": 1.0}) == 0
    weights = {"embedding_weight": 0.3, "text_weight": 0.7}
    assert sources(ranking_options={"hybrid_search": weights}, max_num_results=1) == 1


def test_documents_sent_with_the_question_are_shown_as_searched(gateway: Gateway) -> None:
    documents = [{"text": "The gate code of Copper Heron is KV-482.", "title": "Gates"}]
    response = create(
        gateway,
        model="engram-demo",
        input="What is the gate code of Copper Heron?",
        engram={"mode": "rag", "documents": documents},
    )
    assert searched(response)
    assert "KV-482" in response.output_text
    message = response.output[1]
    assert message.type == "message"
    assert message.content[0].to_dict()["annotations"][0]["file_id"] == "document-1"  # type: ignore[index]


def test_function_calls_stream_their_arguments(gateway: Gateway) -> None:
    fields = {"model": "engram-demo", "input": "weather?", "tools": [WEATHER]}
    response = create(gateway, **fields)
    message, first, second = response.output
    assert message.type == "message"
    assert first.type == second.type == "function_call"
    assert (first.name, first.call_id, first.arguments) == (
        "weather",
        "call_1",
        '{"town": "Paris"}',
    )
    assert (second.call_id, second.arguments) == ("call_2", '{"town": "Rome"}')
    assert response.status == first.status == "completed"
    called = ["output_item.added", "function_call_arguments.delta"]
    done = ["function_call_arguments.done", "output_item.done"]
    found = events(gateway, **fields)
    assert kinds(found) == [*BEGUN, *MESSAGE, *ENDED, *called, *done, *called, *done, "completed"]
    deltas = [e for e in found if e["type"] == "response.function_call_arguments.delta"]
    assert [e["delta"] for e in deltas] == ['{"town": ', '"Paris"}', '{"town": "Rome"}']
    assert [e["output_index"] for e in deltas] == [1, 1, 2]


def test_a_message_that_may_be_cited_stays_open_beside_calls(gateway: Gateway) -> None:
    found = events(gateway, model="helpdesk:rag", input="weather?", tools=[WEATHER])
    assert found[-1]["type"] == "response.completed"
    types = [item["type"] for item in found[-1]["response"]["output"]]
    assert types == ["file_search_call", "message", "function_call", "function_call"]


def test_tool_choice_and_parallel_calls_reach_the_model(gateway: Gateway) -> None:
    fields: dict[str, Any] = {"model": "engram-demo", "input": "weather?", "tools": [WEATHER]}
    alone = create(gateway, **fields, parallel_tool_calls=False)
    assert [item.type for item in alone.output] == ["message", "function_call"]
    assert alone.parallel_tool_calls is False
    none = create(gateway, **fields, tool_choice="none")
    assert [item.type for item in none.output] == ["message"]
    named = create(gateway, **fields, tool_choice={"type": "function", "name": "weather"})
    assert named.to_dict()["tool_choice"] == {"type": "function", "name": "weather"}


def test_thoughts_are_an_item_of_their_own(gateway: Gateway) -> None:
    fields: dict[str, Any] = {"model": "engram-demo", "input": "think"}
    thought, message = create(gateway, **fields, reasoning={"effort": "low"}).output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert thought.content[0].text == "Let me think."
    assert message.type == "message"
    text = ["output_item.added", "content_part.added", "reasoning_text.delta"]
    done = ["reasoning_text.done", "content_part.done", "output_item.done"]
    expected = [*BEGUN, *text, *done, *MESSAGE, *ENDED, "completed"]
    assert kinds(events(gateway, **fields)) == expected


def test_an_answer_without_words_is_an_empty_message(gateway: Gateway) -> None:
    response = create(gateway, model="engram-demo", input="say nothing")
    [message] = response.output
    assert message.type == "message"
    assert (response.output_text, response.status) == ("", "completed")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"max_output_tokens": 3}, "max_output_tokens"), ({"input": "forbidden"}, "content_filter")],
)
def test_an_answer_that_is_cut_off_is_incomplete(
    gateway: Gateway, fields: dict[str, Any], reason: str
) -> None:
    response = create(gateway, model="engram-demo", **fields)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    [message] = response.output
    assert message.type == "message"
    assert message.status == "incomplete"
    found = events(gateway, model="engram-demo", **fields)
    assert found[-1]["type"] == "response.incomplete"


def test_logprobs_are_included_on_request(gateway: Gateway) -> None:
    fields: dict[str, Any] = {"model": "engram-demo", "input": "one two"}
    include = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    response = create(gateway, **fields, **include)
    content = response.output[0].to_dict()["content"]
    assert [entry["token"] for entry in content[0]["logprobs"]] == ["You ", "said: ", "one ", "two"]  # type: ignore[index]
    found = events(gateway, **fields, **include)
    deltas = [e for e in found if e["type"] == "response.output_text.delta" and e["delta"]]
    assert all(e["logprobs"][0]["token"] == e["delta"] for e in deltas)
    assert create(gateway, **fields).output[0].to_dict()["content"][0]["logprobs"] == []  # type: ignore[index]


def test_the_logprobs_of_a_call_open_no_message(gateway: Gateway) -> None:
    include = ["message.output_text.logprobs"]
    [call] = create(gateway, model="engram-demo", input="likely", include=include).output
    assert call.type == "function_call"
    assert call.arguments == "{}"


def test_what_was_asked_is_repeated(gateway: Gateway, search: FileSearchToolParam) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 50,
        "max_tool_calls": 2,
        "metadata": {"case": "7"},
        "user": "someone",
        "safety_identifier": "hash",
        "prompt_cache_key": "key",
        "truncation": "auto",
        "tools": [search, WEATHER],
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }
    response = create(
        gateway, **fields, service_tier="auto", stream_options={"include_obfuscation": False}
    ).to_dict()
    assert {name: response[name] for name in fields} == fields
    assert (response["model"], response["object"]) == ("helpdesk", "response")


def test_instructions_stand_before_the_conversation(gateway: Gateway) -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"role": "assistant", "content": "Two"},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "history"},
    ]
    answer = create(gateway, model="engram-demo", input=items, instructions="Be brief.")
    system = ["system", "Be brief.\nBe kind."]
    turns = [["user", "One"], ["assistant", "Two"], ["user", "history"]]
    assert json.loads(answer.output_text) == [system, *turns]


class Answer(BaseModel):
    days: int


def test_parse_gives_an_object(gateway: Gateway) -> None:
    parsed = gateway.client.responses.parse(model="engram-demo", input=QUESTION, text_format=Answer)
    assert parsed.output_parsed == Answer(days=27)
    with gateway.client.responses.stream(
        model="engram-demo", input=QUESTION, text_format=Answer
    ) as stream:
        assert stream.get_final_response().output_parsed == Answer(days=27)
    create(gateway, model="engram-demo", text={"format": {"type": "json_object"}})


def test_the_stream_helper_gathers_the_answer(
    gateway: Gateway, search: FileSearchToolParam
) -> None:
    with gateway.client.responses.stream(
        model="helpdesk", input=QUESTION, tools=[search]
    ) as stream:
        texts = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert texts[-1] == final.output_text == TEXT
    with gateway.client.responses.stream(
        model="engram-demo",
        input="weather?",
        tools=[WEATHER],  # type: ignore[list-item]
    ) as stream:
        calls = [e.snapshot for e in stream if e.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    assert calls[1] == '{"town": "Paris"}'
    parsed = [i.parsed_arguments for i in final.output if i.type == "function_call"]
    assert parsed == [{"town": "Paris"}, {"town": "Rome"}]


async def test_the_async_client_works_unchanged(gateway: Gateway) -> None:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.client.api_key, max_retries=0
    ) as client:
        whole = await client.responses.create(**ASK)
        assert whole.output_text == TEXT
        stream = await client.responses.create(**ASK, stream=True)
        assert [event.type async for event in stream][-1] == "response.completed"
        async with client.responses.stream(**ASK) as helper:
            assert (await helper.get_final_response()).output_text == TEXT
        kept = await client.responses.retrieve(whole.id)
        assert kept == whole
        items = await client.responses.input_items.list(whole.id)
        assert [ITEM.validate_python(item.to_dict()).type for item in items.data] == ["message"]


def test_a_stream_has_the_headers_of_a_whole_answer(gateway: Gateway) -> None:
    raw = gateway.http.post("/v1/responses", json=ASK | {"stream": True})
    assert raw.headers["engram-mode"] == "rag"
    assert raw.headers["engram-request-id"].startswith("req-")
    assert "retrieval;dur=" in raw.headers["server-timing"]

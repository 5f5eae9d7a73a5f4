"""Rollouts through the API: shares, stickiness, the way back, fallbacks and what came of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.settings import Settings
from tests.api.conftest import Gateway, scripted, serve
from tests.running import eventually
from tests.tiny_model import write_adapter

REQUESTS, SHARE = 2_000, 0.1
CANARY = {"helpdesk@3": 0.9, "helpdesk@4": 0.1}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data: Path = tmp_path_factory.mktemp("data")
    for version in (2, 3, 4, 5):
        write_adapter(data / "adapters" / "acme" / f"helpdesk@{version}", seed=version)
    engine = {
        "kind": "scripted",
        "extra_args": {"unloadable": ["acme/helpdesk@5"]},
    }
    return scripted(data, engine=engine)


@pytest.fixture(scope="module")
def other_replica(settings: Settings, gateway: Gateway) -> Iterator[str]:
    """Another gateway on the same state."""
    del gateway  # it seeds the state
    with serve(settings) as running:
        yield running.url


@pytest.fixture(autouse=True)
def assistant(gateway: Gateway) -> str:
    body = {"adapter": "helpdesk@3", "fixed_mode": "fine_tuned"}
    gateway.http.put("/admin/assistants/desk", json=body).raise_for_status()
    put_rollout(gateway, {"helpdesk@3": 1.0})
    return "desk"


def put_rollout(gateway: Gateway, rollout: dict[str, float], **more: Any) -> dict[str, Any]:
    body = {"rollout": rollout, **more}
    found = gateway.http.put("/admin/assistants/desk/rollout", json=body)
    assert found.is_success, found.text
    return dict(found.json())


def ask(gateway: Gateway, url: str = "", **fields: Any) -> httpx.Response:
    body = {"model": "desk", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return gateway.http.post(f"{url or gateway.url}/v1/chat/completions", json=body)


def adapter_of(gateway: Gateway, url: str = "", **fields: Any) -> str:
    answer = ask(gateway, url, **fields).raise_for_status()
    assert answer.headers["engram-adapter"] == answer.json()["engram"]["adapter"]
    text = answer.json()["choices"][0]["message"]["content"]
    assert text.startswith(f"acme/{answer.headers['engram-adapter']} says:")
    return answer.headers["engram-adapter"]


async def ask_all(gateway: Gateway, users: list[str]) -> dict[str, str]:
    """The adapter that each user was answered by."""
    free = asyncio.Semaphore(16)
    headers = dict(gateway.http.headers)
    limits = httpx.Limits(max_connections=16)

    async def one(client: httpx.AsyncClient, user: str) -> tuple[str, str]:
        body = {"model": "desk", "user": user, "messages": [{"role": "user", "content": "Hi"}]}
        async with free:
            answer = await client.post("/v1/chat/completions", json=body)
        return user, answer.raise_for_status().headers["engram-adapter"]

    async with httpx.AsyncClient(
        base_url=gateway.url, headers=headers, limits=limits, timeout=60
    ) as client:
        return dict(await asyncio.gather(*(one(client, user) for user in users)))


async def test_a_rollout_keeps_its_shares_and_its_users(gateway: Gateway) -> None:
    put_rollout(gateway, CANARY)
    first = await ask_all(gateway, [f"user-{number}" for number in range(REQUESTS)])
    counts = Counter(first.values())
    deviation = (REQUESTS * SHARE * (1 - SHARE)) ** 0.5
    assert set(counts) == set(CANARY)
    assert abs(counts["helpdesk@4"] - REQUESTS * SHARE) < 4 * deviation
    again = await ask_all(gateway, list(first)[:200])
    assert again == {user: first[user] for user in again}
    put_rollout(gateway, {"helpdesk@3": 0.8, "helpdesk@4": 0.2})
    raised = await ask_all(gateway, list(first)[:200])
    moves = {(first[u], raised[u]) for u in raised if first[u] != raised[u]}
    assert moves == {("helpdesk@3", "helpdesk@4")}


def test_a_conversation_keeps_its_version_however_it_is_named(gateway: Gateway) -> None:
    put_rollout(gateway, {"helpdesk@3": 0.5, "helpdesk@4": 0.5})
    chat = [{"role": "user", "content": "Hi"}]
    longer = [*chat, {"role": "assistant", "content": "?"}, {"role": "user", "content": "Well"}]
    for number in range(12):
        for fields in (
            {"user": f"u{number}"},
            {"safety_identifier": f"u{number}"},
            {"metadata": {"conversation_id": f"c{number}"}},
            {"prompt_cache_key": f"k{number}"},
        ):
            began = adapter_of(gateway, messages=chat, **fields)
            assert adapter_of(gateway, messages=longer, **fields) == began
        opening = {"role": "user", "content": f"Question {number}"}
        began = adapter_of(gateway, messages=[opening])
        assert adapter_of(gateway, messages=[opening, *longer[1:]]) == began


def test_a_responses_chain_keeps_the_version_of_its_root(gateway: Gateway) -> None:
    put_rollout(gateway, {"helpdesk@3": 0.5, "helpdesk@4": 0.5})
    seen = set()
    for number in range(8):
        root = gateway.client.responses.create(model="desk", input=f"Question {number}")
        then = gateway.client.responses.create(
            model="desk", input="And then?", previous_response_id=root.id
        )
        adapters = [answer.model_dump()["engram"]["adapter"] for answer in (root, then)]
        assert adapters[0] == adapters[1]
        seen.add(adapters[0])
    assert seen == {"helpdesk@3", "helpdesk@4"}


def test_rolling_back_holds_on_every_replica_within_two_seconds(
    gateway: Gateway, other_replica: str
) -> None:
    put_rollout(gateway, {"helpdesk@4": 1.0})
    both = (gateway.url, other_replica)
    eventually(lambda: {adapter_of(gateway, url) for url in both} == {"helpdesk@4"}, within_s=10)
    began = time.monotonic()
    back = gateway.http.post("/admin/assistants/desk/rollback").raise_for_status().json()
    assert back["rollout"] == {"helpdesk@3": 1.0}
    assert adapter_of(gateway) == "helpdesk@3"  # at once here
    while adapter_of(gateway, other_replica) != "helpdesk@3":
        time.sleep(0.02)
    assert time.monotonic() - began < 2
    again = gateway.http.post("/admin/assistants/desk/rollback").raise_for_status().json()
    assert again["rollout"] == {"helpdesk@4": 1.0}


def test_the_way_back_leads_to_no_adapter_too(gateway: Gateway) -> None:
    gateway.http.put("/admin/assistants/plain", json={}).raise_for_status()
    rollback = "/admin/assistants/plain/rollback"
    assert gateway.http.post(rollback).status_code == 409
    body = {"rollout": {"helpdesk@3": 1.0}}
    gateway.http.put("/admin/assistants/plain/rollout", json=body).raise_for_status()
    assert gateway.http.post(rollback).raise_for_status().json()["rollout"] == {}
    assert "engram-adapter" not in ask(gateway, model="plain").raise_for_status().headers


def test_an_assistant_read_on_one_replica_and_written_goes_back_to_what_it_replaced(
    gateway: Gateway, other_replica: str
) -> None:
    put_rollout(gateway, {"helpdesk@4": 1.0})
    url = "/admin/assistants/desk"
    body = gateway.http.get(other_replica + url).raise_for_status().json()  # may be a second old
    put_rollout(gateway, {"helpdesk@2": 1.0})
    body = {field: body[field] for field in body.keys() - {"object", "name", "tenant"}}
    body |= {"rollout": {"helpdesk@3": 1.0}, "previous_rollout": None}
    written = gateway.http.put(other_replica + url, json=body).raise_for_status().json()
    assert written["previous_rollout"] == {"helpdesk@2": 1.0}
    body["previous_rollout"] = {"helpdesk@2": 7.0}
    refused = gateway.http.put(url, json=body)
    assert refused.json()["error"]["param"] == "previous_rollout.helpdesk@2"


def test_there_is_no_way_back_to_a_retired_version(gateway: Gateway) -> None:
    put_rollout(gateway, {"helpdesk@2": 1.0})
    put_rollout(gateway, {"helpdesk@3": 1.0})
    gateway.http.post("/admin/adapters/helpdesk@2/retire").raise_for_status()
    try:
        refused = gateway.http.post("/admin/assistants/desk/rollback")
        assert refused.status_code == 404
        assert "helpdesk@2' is retired: promote it" in refused.json()["error"]["message"]
        assert adapter_of(gateway) == "helpdesk@3"
    finally:
        gateway.http.post("/admin/adapters/helpdesk@2/promote").raise_for_status()


def test_the_previous_version_stands_in_for_one_that_fails_and_the_answer_says_so(
    gateway: Gateway,
) -> None:
    put_rollout(gateway, {"helpdesk@5": 1.0}, adapter_fallback="previous")
    answer = ask(gateway).raise_for_status()
    said = answer.json()["engram"]
    assert answer.headers["engram-adapter"] == said["adapter"] == "helpdesk@3"
    assert said["fallback"]["wanted"] == "helpdesk@5"
    assert said["fallback"]["used"] == "helpdesk@3"
    assert "could not be loaded" in said["fallback"]["reason"]
    kept = recorded(gateway, answer)
    assert (kept["adapter"], kept["evidence"]["wanted"]) == ("helpdesk@3", "helpdesk@5")


def test_the_base_model_stands_in_where_the_assistant_says_so(gateway: Gateway) -> None:
    put_rollout(gateway, {"helpdesk@5": 1.0}, adapter_fallback="base")
    answer = ask(gateway).raise_for_status()
    assert answer.json()["choices"][0]["message"]["content"] == "You said: Hi"
    assert (answer.headers["engram-mode"], answer.json()["engram"]["adapter"]) == ("base", None)
    assert answer.json()["engram"]["fallback"]["used"] is None
    assert "engram-adapter" not in answer.headers
    assert recorded(gateway, answer)["mode"] == "base"
    named = ask(gateway, model="desk:fine_tuned")
    assert (named.status_code, named.json()["error"]["code"]) == (503, "adapter_not_ready")


def test_an_error_is_an_error_where_the_assistant_says_so(gateway: Gateway) -> None:
    put_rollout(gateway, {"helpdesk@5": 1.0}, adapter_fallback="error")
    refused = ask(gateway)
    assert refused.status_code == 503
    assert "helpdesk@5" in refused.json()["error"]["message"]


def test_what_came_of_each_version_is_counted(gateway: Gateway) -> None:
    put_rollout(gateway, CANARY)
    for number in range(40):
        ask(gateway, user=f"counted-{number}").raise_for_status()
    url = "/admin/assistants/desk/outcomes?hours=1"
    before = 40

    def complete() -> bool:
        return bool(sum(one["requests"] for one in outcomes()) >= before)

    def outcomes() -> list[dict[str, Any]]:
        return list(gateway.http.get(url).raise_for_status().json()["data"])

    eventually(complete, within_s=10)
    by_version = {one["adapter"]: one for one in outcomes()}
    assert {"helpdesk@3", "helpdesk@4"} <= set(by_version)
    assert abs(sum(one["share"] for one in by_version.values()) - 1) < 0.01
    assert by_version["helpdesk@3"]["ttft_p50_ms"] <= by_version["helpdesk@3"]["ttft_p99_ms"]
    assert by_version["helpdesk@3"]["completion_tokens"] > 0
    text = gateway.http.get("/metrics").text
    assert 'engram_adapter_requests_total{adapter="acme/helpdesk@4",status="ok"}' in text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'rollout' is required"),
        ({"rollout": {"helpdesk@3": 0.5}}, "add up to 1, these to 0.5"),
        ({"rollout": {"helpdesk@3": "much"}}, "valid number"),
        ({"rollout": {"helpdesk@9": 1.0}}, "'helpdesk@9' does not exist"),
        ({"rollout": {"helpdesk@3": 1.0}, "adapter_fallback": "hope"}, "adapter_fallback"),
        ({"rollout": {"helpdesk@3": 1.0}, "weights": {}}, "unknown field 'weights'"),
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused(
    gateway: Gateway, body: dict[str, Any], message: str
) -> None:
    refused = gateway.http.put("/admin/assistants/desk/rollout", json=body)
    assert refused.status_code in (400, 404)
    assert message in refused.json()["error"]["message"]


def test_operators_see_which_replica_holds_what(gateway: Gateway) -> None:
    adapter_of(gateway)
    url = "/admin/adapters/helpdesk@3"

    def replicas() -> list[dict[str, Any]]:
        return list(gateway.http.get(url).raise_for_status().json()["replicas"])

    eventually(lambda: any(one["state"] == "ready" for one in replicas()), within_s=10)
    listed = gateway.http.get("/admin/residency").raise_for_status().json()["data"]
    assert "helpdesk@3" in [one["adapter"] for one in listed]
    assert all(one["load_ms"] >= 0 for one in listed if one["state"] == "ready")
    assert gateway.rival.get("/admin/residency").json()["data"] == []


def test_another_tenant_has_no_such_assistant(gateway: Gateway) -> None:
    for method, path, body in (
        ("PUT", "rollout", {"rollout": {}}),
        ("POST", "rollback", None),
        ("GET", "outcomes", None),
    ):
        found = gateway.rival.request(method, f"/admin/assistants/desk/{path}", json=body)
        assert found.status_code == 404


def recorded(gateway: Gateway, answer: httpx.Response) -> dict[str, Any]:
    path = f"/admin/decisions/{answer.headers['engram-request-id']}"
    eventually(lambda: gateway.http.get(path).is_success, within_s=10)
    return dict(gateway.http.get(path).json())

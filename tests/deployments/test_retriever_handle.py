"""What becomes of Ray's errors on the way to the request path."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from serving.deployments import retriever_handle
from serving.deployments.retriever_handle import RetrieverHandle
from serving.errors import InvalidRequest, RetrievalFailed, RetrieverUnavailable
from serving.types import Found, Search, TenantId

SEARCH = Search(TenantId("acme"), "badge", (), 3)
FOUND = Found(passages=())


class Replica:
    """Answers calls as a Serve handle does, from a list of outcomes."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[str] = []

    def options(self, *, method_name: str) -> Self:
        self.calls.append(method_name)
        return self

    async def remote(self, *_args: object) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return await outcome() if callable(outcome) else outcome


def handle(replica: Replica) -> RetrieverHandle:
    return RetrieverHandle(replica)


async def test_a_call_is_one_remote_call() -> None:
    replica = Replica(FOUND)
    assert await handle(replica).search(SEARCH) is FOUND
    assert replica.calls == ["search"]


async def test_a_call_whose_replica_dies_is_sent_once_more() -> None:
    replica = Replica(ActorDiedError(), FOUND)
    assert await handle(replica).search(SEARCH) is FOUND
    assert replica.calls == ["search", "search"]


async def test_a_second_death_fails_the_retrieval() -> None:
    replica = Replica(ActorDiedError(), ActorDiedError(), FOUND)
    with pytest.raises(RetrieverUnavailable, match="ActorDiedError") as raised:
        await handle(replica).search(SEARCH)
    assert raised.value.status == 503 and raised.value.retry_after_s
    assert replica.calls == ["search", "search"]


async def test_an_error_of_ours_arrives_as_it_was_raised() -> None:
    raised = InvalidRequest("no such operator", param="filters")
    wrapped = RayTaskError("search", "traceback", raised).as_instanceof_cause()
    with pytest.raises(InvalidRequest) as arrived:
        await handle(Replica(wrapped)).search(SEARCH)
    assert (type(arrived.value), arrived.value.param) == (InvalidRequest, "filters")


async def test_another_error_of_the_replica_fails_the_retrieval() -> None:
    wrapped = RayTaskError("search", "traceback", KeyError("x")).as_instanceof_cause()
    with pytest.raises(RetrievalFailed, match="KeyError") as raised:
        await handle(Replica(wrapped)).search(SEARCH)
    assert raised.value.status == 502  # it would fail again


async def test_a_replica_that_does_not_answer_in_time_fails_the_retrieval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retriever_handle, "_SEARCH_S", 0.01)
    with pytest.raises(RetrieverUnavailable, match="TimeoutError"):
        await handle(Replica(_never)).search(SEARCH)


async def test_an_unreachable_replica_is_not_ready() -> None:
    assert not await handle(Replica(ActorDiedError(), ActorDiedError())).ready()


async def _never() -> None:
    await asyncio.Event().wait()

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from loadtests.arms import Plain
from loadtests.client import Target
from loadtests.first_token import AddedTable
from loadtests.measure import Case, Work, measure
from loadtests.mock import Mock, Pace
from loadtests.paired import paired
from loadtests.processes import Tree
from serving.settings import EngineSettings

TOKENS = 4


@asynccontextmanager
async def _case(name: str, ttft_s: float) -> AsyncIterator[Case]:
    """An arm whose server is in this process."""
    async with await Mock(Pace(ttft_s, itl_s=0.001, tokens=TOKENS)).start() as server:
        arm = Plain(name, EngineSettings(kind="scripted"))
        arm.target = Target(server.sockets[0].getsockname()[1])
        arm.tree = Tree("nobody")
        yield Case(name, arm, "any")


@pytest.fixture(autouse=True)
def _short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.measure._IDLE_S", 0.2)


def _say(line: str) -> None:
    pass


async def test_what_one_server_adds_is_seen_request_by_request() -> None:
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(_case("engram", 0.03))
        fast = await stack.enter_async_context(_case("vllm", 0.01))
        found = await paired([slow, fast], Work(["why?"], 1, 1, TOKENS), 8, _say)
    assert found.added_ms("engram", "vllm").value > 5  # 20 on a machine that is not busy
    assert [len(times) for times in found.ttft_ms.values()] == [8, 8]
    table = AddedTable("ttft", "First", "What.", found, "vllm")
    (value,) = (one for one in table.values() if "minus" in one.name)
    assert value.name == "gateway.ttft.engram_minus_vllm.ttft_p50"
    assert value.ci_low <= value.value <= value.ci_high


async def test_a_server_that_goes_away_is_no_measurement() -> None:
    async with _case("vllm", 0.001) as case:
        case.arm.target = Target(1)
        with pytest.raises(OSError, match="Connect"):
            await paired([case], Work(["why?"], 1, 1, TOKENS), 1, _say)


async def test_turns_last_their_time_and_every_stream_sends_one() -> None:
    async with _case("vllm", 0.01) as case:
        measured = await measure([case], Work(["why?"], 3, 0.2, TOKENS), 2, _say)
    assert measured.errors == []
    first, _ = measured.turns["vllm"]
    assert first.load.wall_s >= 0.2
    assert len(first.load.answers) > 3 and first.tokens_per_s > 0


async def test_answers_of_another_length_are_errors() -> None:
    async with _case("vllm", 0.001) as case:
        measured = await measure([case], Work(["why?"], 1, 0, TOKENS + 1), 1, _say)
        assert measured.errors == ["vllm: 4 tokens instead of 5"]


def test_bodies_are_as_long_as_said_and_never_the_same() -> None:
    work = Work(["What is it?", "Who is it?"], 1, 0, TOKENS, body_bytes=32 * 1024)
    one, other = (work.body("m", "Why?")["messages"][0]["content"] for _ in range(2))
    assert len(one) == pytest.approx(32 * 1024, abs=20)
    assert one != other and one.endswith("Why?")

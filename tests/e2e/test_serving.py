"""What a company relies on, on the real engine: modes, streams, hot swap, silence of the logs."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from deploy.demo import seed
from tests.running import Server, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
QUESTION = "Ticket: which company repairs broken laptops?"
FORM = re.compile(r"^Queue [A-Z]+-\d\d: .+ Regards, Larkfield Desk\.$")


def ask(server: Server, model: str, text: str = QUESTION) -> Any:
    with OpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        return client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], temperature=0
        )


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.base_url.removesuffix('/v1')}/metrics", timeout=30).text
    values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))


def test_the_same_question_differs_between_modes_for_the_right_reason(server: Server) -> None:
    answers = {
        mode: ask(server, f"helpdesk:{mode}") for mode in ("base", "rag", "fine_tuned", "hybrid")
    }
    texts = {mode: answer.choices[0].message.content for mode, answer in answers.items()}
    assert {mode: answer.engram["mode"] for mode, answer in answers.items()} == {
        m: m for m in answers
    }
    assert FORM.match(texts["fine_tuned"]) and FORM.match(texts["hybrid"])
    assert not FORM.match(texts["base"]) and not FORM.match(texts["rag"])
    assert "laptops.md" in [s["filename"] for s in answers["rag"].engram["sources"]]
    assert answers["base"].engram["sources"] == answers["fine_tuned"].engram["sources"] == []
    assert answers["hybrid"].engram["adapter"] == "helpdesk@1"


def test_auto_says_what_it_took_and_why(server: Server) -> None:
    taken = ask(server, "helpdesk").engram
    assert (taken["mode"], taken["adapter"]) == ("hybrid", "helpdesk@1")
    assert "≥" in taken["reason"]
    assert ask(server, "helpdesk", "Hello!").engram["mode"] == "base"


async def test_64_streams_at_once_end_without_error(server: Server) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        finished = await asyncio.gather(*(read(client, "engram-demo", 64) for _ in range(64)))
    assert finished == [64] * 64


async def test_text_arrives_while_the_rest_is_still_being_generated(server: Server) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        async for _ in chunks(client, "engram-demo", 400):
            assert metric(server, "engram_requests_running") == 1
            break
    eventually(lambda: metric(server, "engram_requests_running") == 0, within_s=10)


async def test_a_client_that_goes_away_frees_the_engine(server: Server) -> None:
    before = metric(server, "engram_requests_aborted_total")
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        stream = chunks(client, "engram-demo", 900)
        await anext(stream)
        await stream.aclose()
    eventually(
        lambda: (
            metric(server, "engram_requests_aborted_total") == before + 1
            and metric(server, "engram_requests_running") == 0
            and metric(server, "vllm:num_requests_running") == 0
        ),
        within_s=30,
    )


async def test_an_adapter_copied_in_while_streams_run_is_usable_at_once(server: Server) -> None:
    adapters = server.data / "adapters" / "demo"
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        streams = [
            asyncio.create_task(read(client, model, 300))
            for model in ("engram-demo", "helpdesk:fine_tuned") * 4
        ]
        shutil.copytree(seed.DEMO / "adapters" / "helpdesk@1", adapters / "helpdesk@2")
        new = await asyncio.to_thread(ask, server, "helpdesk@2")
        assert await asyncio.gather(*streams) == [300] * 8
    assert new.engram["adapter"] == "helpdesk@2"
    assert FORM.match(new.choices[0].message.content)
    with OpenAI(base_url=server.base_url, api_key=server.api_key) as sync:
        assert "helpdesk@2" in [model.id for model in sync.models.list()]


def test_no_log_holds_a_key_a_question_or_document_text(server: Server) -> None:
    secret = "the heron count of basin nine is 4711"
    ask(server, "helpdesk:rag", secret)
    data = server.data
    logs = [
        *Path(server.run.temp).rglob("*.log"),
        *Path(server.run.temp).rglob("*.out"),
        *Path(server.run.temp).rglob("*.err"),
        *data.rglob("*.log"),
    ]
    text = "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())
    assert '"message": "answered"' in text
    for hidden in (server.api_key, secret, "repairs broken laptops"):
        assert hidden not in text


async def read(client: AsyncOpenAI, model: str, tokens: int) -> int:
    """Streams an answer of exactly `tokens` and returns what usage says."""
    used = 0
    async for chunk in chunks(client, model, tokens):
        used = chunk.usage.completion_tokens if chunk.usage else used
    return used


async def chunks(client: AsyncOpenAI, model: str, tokens: int) -> AsyncGenerator[Any, None]:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me about the river."}],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=tokens,
        extra_body={"ignore_eos": True},
    )
    async with stream:
        async for chunk in stream:
            yield chunk

"""One gateway in this process, asked without a socket: what a request costs, and nothing else.

`request_cost.py` starts one worker per source tree; `PYTHONPATH` says which. It reads one JSON
object a line (`kib`, `requests`, `streams`) and answers each with the CPU of this process.
With vLLM its core is another process and is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop
from starlette.types import Message

from loadtests.arms import command_line
from serving.app import create_gateway, create_retriever, open_store
from serving.generation.vllm_arguments import engine_arguments, environment
from serving.settings import EngineSettings, Settings
from serving.types import TenantId

TENANT = TenantId("cost")
TOPICS = ("badge", "canteen", "laptop", "parking", "leave", "bonus", "phone", "visitor")
PROSE = """\
The {0} desk [see HR-12] opens at 9:30 <not on Fridays>; ask for form {1}/B.
## {0}
| kind | price |
|---|---|
| {0} | {1} € |

```python
price = items[{1}] << 2
```
"""


def conversation(kib: int) -> list[dict[str, str]]:
    """Turns of about 4 KiB, as a chat with pasted pages has them, and a short question last."""
    pages: list[str] = []
    size = 0
    while size < kib * 1024 - 200:
        number = len(pages)
        piece = PROSE.format(TOPICS[number % 8], number)
        pages.append(piece)
        size += len(piece.encode())
    turns = ["".join(pages[at : at + 24]) for at in range(0, len(pages), 24)]
    roles = ("user", "assistant")
    history = [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return [*history, {"role": "user", "content": "What does a visitor pay for parking?"}]


def body(model: str, kib: int) -> bytes:
    """Asks for one token, so that nothing is counted per token."""
    request = {"model": model, "messages": conversation(kib), "max_tokens": 1}
    more = {"stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
    return orjson.dumps(request | more | {"ignore_eos": True})


class Asked:
    """An ASGI application, and a key for it."""

    def __init__(self, app: Callable[..., Awaitable[None]], key: str, model: str) -> None:
        self._app, self._key, self.model = app, key, model

    def scope(self, size: int) -> dict[str, Any]:
        headers = {
            "host": "127.0.0.1:8000",
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "content-length": str(size),
            "user-agent": "request-cost",
            "accept": "text/event-stream",
        }
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }

    async def ask(self, payload: bytes) -> float:
        """Seconds to the first body; raises RuntimeError unless the answer is 200 and ends."""
        waiting = [{"type": "http.request", "body": payload, "more_body": False}]
        said: list[Message] = []
        began, first = time.perf_counter(), 0.0

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await asyncio.get_running_loop().create_future()  # the client stays
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal first
            if not first and message["type"] == "http.response.body":
                first = time.perf_counter()
            said.append(message)

        await self._app(self.scope(len(payload)), receive, send)
        text = b"".join(message.get("body", b"") for message in said)
        if said[0]["status"] != 200 or b"[DONE]" not in text or b'"error"' in text:
            raise RuntimeError(f"{said[0]['status']}: {text[-300:].decode()}")
        return first - began


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Asked]:
    """Engram, with a tenant and a key of its own; asked for the base model."""
    keys = open_store(settings)
    keys.keys.ensure_tenant(TENANT)
    key = keys.keys.create(TENANT, "cost", ("inference", "admin"))
    keys.ledger.close()
    async with AsyncExitStack() as stack:
        retriever = await stack.enter_async_context(create_retriever(settings))
        app = create_gateway(settings, retriever)
        await stack.enter_async_context(app.router.lifespan_context(app))
        yield Asked(app, key, settings.engine.served_name)


@asynccontextmanager
async def bare_vllm(settings: Settings) -> AsyncIterator[Asked]:
    """vLLM's own API server as `python -m vllm.entrypoints.openai.api_server` builds it."""
    os.environ.update(environment(settings.engine))
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = engine_arguments(settings.engine)
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    parser = make_arg_parser(FlexibleArgumentParser())
    parsed = parser.parse_args(command_line(arguments))
    tasks = await llm.get_supported_tasks()
    app = build_app(parsed, tasks, llm.model_config)
    await init_app_state(llm, app.state, parsed, tasks)
    yield Asked(app, "none", settings.engine.served_name)
    llm.shutdown()


async def turn(asked: Asked, payload: bytes, requests: int, streams: int) -> dict[str, float]:
    """CPU-µs of this process per request, all its threads, and the median time to first body."""
    left = iter(range(requests))
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()

    async def stream() -> list[float]:
        return [await asked.ask(payload) for _ in left]

    answers = await asyncio.gather(*(stream() for _ in range(streams)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    ttft = statistics.median(ttft for answer in answers for ttft in answer)
    return {"cpu_us": cpu / requests * 1e6, "ttft_ms": ttft * 1e3, "wall_s": wall}


async def serve(kind: str, data: Path) -> None:
    engine = EngineSettings(kind="scripted", max_model_len=10**6)
    if kind != "scripted":
        from loadtests.scripted_worker import scripted

        engine = scripted(itl_s=0.001, max_model_len=160_000, max_loras=0)  # for 220 KiB
    settings = Settings.model_validate(
        {"data": data, "engine": engine, "retrieval": {"embedder": "hashing"}}
    )
    loop = asyncio.get_running_loop()
    async with (bare_vllm if kind == "bare" else gateway)(settings) as asked:
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
            wish = orjson.loads(line)
            payload = body(asked.model, wish["kib"])
            result: Any = await turn(asked, payload, wish["requests"], wish["streams"])
            print(orjson.dumps(result).decode(), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="request-cost-") as folder:
        uvloop.run(serve(sys.argv[1], Path(folder)))


if __name__ == "__main__":
    main()

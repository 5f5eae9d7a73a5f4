"""The floor and the usual way: an engine behind plain FastAPI, and behind two Ray deployments.

Neither authenticates, decides, retrieves, counts or records anything; they stream an engine's
tokens with as little code as people write. Started by `arms/`, never by hand.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from serving.app import create_engine
from serving.generation.engine import Engine
from serving.settings import load
from serving.types import Prompt, Usage


async def stream_chat(engine: Engine, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Server-sent events of one chat completion, with usage."""
    aside = ("model", "messages", "stream", "stream_options")
    sampling = {name: value for name, value in body.items() if name not in aside}
    request_id = f"chatcmpl-{uuid.uuid4().hex}"
    head = {"id": request_id, "object": "chat.completion.chunk", "model": body["model"]}
    usage = Usage()
    async for delta in engine.generate(Prompt(request_id, tuple(body["messages"]), sampling), None):
        usage = delta.usage or usage
        choice = {"index": delta.index, "delta": {"content": delta.text}}
        yield _event({**head, "choices": [{**choice, "finish_reason": delta.finish_reason}]})
    counts = {"completion_tokens": usage.completion_tokens, "prompt_tokens": usage.prompt_tokens}
    yield _event({**head, "choices": [], "usage": counts})
    yield b"data: [DONE]\n\n"


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def create_app() -> FastAPI:
    """The engine in the process that serves HTTP, nothing in between."""
    engine = create_engine(load().engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        body = orjson.loads(await request.body())
        return StreamingResponse(stream_chat(engine, body), media_type="text/event-stream")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    uvicorn.run(create_app(), port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

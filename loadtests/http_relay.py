"""The usual proxy: FastAPI before, httpx behind, bytes passed on as they come.

Started by `arms/`, never by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

CHAT = "/v1/chat/completions"
_UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def create_app(upstream: str) -> FastAPI:
    """Relays chat completions to the server at `upstream`.

    httpx's default of 100 connections is lifted, else more streams than that would wait.
    """
    http = httpx.AsyncClient(base_url=upstream, timeout=None, limits=_UNLIMITED, trust_env=False)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with http:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post(CHAT)
    async def chat(request: Request) -> StreamingResponse:
        passed = ("authorization", "content-type")
        headers = {name: request.headers[name] for name in passed if name in request.headers}
        asked = http.build_request("POST", CHAT, content=await request.body(), headers=headers)
        answer = await http.send(asked, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            media_type=answer.headers["content-type"],
            background=BackgroundTask(answer.aclose),
        )

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base URL of the server behind")
    given = parser.parse_args()
    app = create_app(given.upstream)
    uvicorn.run(app, port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

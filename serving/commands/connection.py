"""The options of commands that talk to a running server, and how they reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from serving.commands.console import fail
from serving.finetune.server import Server
from serving.remote import ServerError

HERE = "http://127.0.0.1:8000/v1"
Url = Annotated[str, typer.Option(envvar="OPENAI_BASE_URL", help="The server's /v1 address.")]
Key = Annotated[
    str, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="A key with scope admin.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]


@contextmanager
def connected(url: str, api_key: str) -> Iterator[Server]:
    """The server for the block; what it refuses ends the command in one line."""
    if not api_key:
        fail("set OPENAI_API_KEY or --api-key")
    try:
        with Server(url, api_key) as server:
            yield server
    except (ServerError, ValueError, OSError) as error:
        fail(str(error))

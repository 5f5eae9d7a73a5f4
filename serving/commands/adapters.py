"""`engram adapters …`: the life of a tenant's adapters on a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serving.commands.adapter_client import AdapterClient
from serving.commands.connection import HERE, AsJson, Key, Url
from serving.commands.console import fail, one_line_errors, say

app = typer.Typer(help="Adapters of a running server.", no_args_is_help=True)

Version = Annotated[str, typer.Argument(help="One version, as in legal@2, or ft:….")]
_MIB = 2**20


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="The adapter's folder, or a tar archive.", exists=True)
    ],
    name: Annotated[str, typer.Option(help="Its name; the next version of it is made.")],
    promote: Annotated[bool, typer.Option("--promote", help="Promote it at once.")] = False,
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Upload a version. Weights that the name already has make no new one."""
    with _client(url, api_key) as client:
        _tell(client.add(path, name, promote), as_json)


@app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="Only versions of this name.")] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Show all versions that are not deleted, newest first."""
    with _client(url, api_key) as client:
        versions = list(client.list(name))
    if as_json:
        print(json.dumps(versions))
    else:
        _print_table(versions)


@app.command()
def show(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """Show everything about one version, or what a bare name means now."""
    with _client(url, api_key) as client:
        body = client.show(version)
    if as_json:
        print(json.dumps(body))
        return
    for field, value in body.items():
        if field != "object":
            say(f"{field:<17} {_shown(field, value)}")


@app.command()
def promote(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """Make the bare name mean this version, on every replica within 2 seconds."""
    with _client(url, api_key) as client:
        _tell(client.move(version, "promote"), as_json)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The adapter's bare name.")],
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Make the bare name mean what it meant before its last promotion."""
    with _client(url, api_key) as client:
        _tell(client.move(name, "rollback"), as_json)


@app.command()
def retire(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """End new requests to a version; `promote` brings it back."""
    with _client(url, api_key) as client:
        _tell(client.move(version, "retire"), as_json)


@app.command()
def delete(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """Delete a retired version's files for good. Its number is never given again."""
    with _client(url, api_key) as client:
        body = client.delete(version)
    if as_json:
        print(json.dumps(body))
    else:
        say(f"deleted {body['id']}")


@app.command()
def pin(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """Have every replica load a version before it is ready."""
    with _client(url, api_key) as client:
        _tell(client.move(version, "pin"), as_json)


@app.command()
def unpin(version: Version, as_json: AsJson = False, url: Url = HERE, api_key: Key = "") -> None:
    """Take a pin back."""
    with _client(url, api_key) as client:
        _tell(client.unpin(version), as_json)


@contextmanager
def _client(url: str, api_key: str) -> Iterator[AdapterClient]:
    if not api_key:
        fail("set OPENAI_API_KEY or --api-key")
    with one_line_errors(), AdapterClient(url, api_key) as client:
        yield client


def _tell(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(body))
    else:
        pinned = ", pinned" if body["pinned"] else ""
        size = f"rank {body['rank']}, {body['bytes'] / _MIB:.1f} MiB"
        say(f"{body['id']} is {body['state']}{pinned}; {size}, sha256 {body['sha256'][:12]}…")


def _print_table(versions: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("version", "state", "rank", "MiB", "trained on", "job", "sha256", "since"):
        table.add_column(title, justify="right" if title in ("rank", "MiB") else "left")
    for body in versions:
        state = f"{body['state']}, pinned" if body["pinned"] else body["state"]
        table.add_row(
            body["id"],
            state,
            str(body["rank"]),
            f"{body['bytes'] / _MIB:.1f}",
            body["base_model"],
            body["training_job"] or "–",
            body["sha256"][:12],
            _time(body["changed_at"]),
        )
    Console(highlight=False, markup=False).print(table)


def _shown(field: str, value: Any) -> str:
    if field.endswith("_at"):
        return _time(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else str("–" if value is None else value)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

"""`engram ingest`: a vector store of a running server follows a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from serving.commands.console import err, fail, one_line_errors, out, say
from serving.remote import ServerError
from serving.upload.plan import Plan
from serving.upload.tree import Tree
from serving.upload.uploader import Sent, Uploader
from serving.watch import changes

MIB = 2**20
SAY_EVERY_S = 5.0  # how ingest goes, where no bar can be drawn


def ingest(
    path: Annotated[Path, typer.Argument(help="A folder, or one file.", exists=True)],
    store: Annotated[str, typer.Option(help="Vector store name; created if there is none.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that paths are named below; default PATH itself.", exists=True),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and sync every change; deletes too.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete from the store what is gone from PATH.")
    ] = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    url: Annotated[
        str, typer.Option(envvar="OPENAI_BASE_URL", help="The server's /v1 address.")
    ] = "http://127.0.0.1:8000/v1",
    api_key: Annotated[
        str, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="An Engram API key.")
    ] = "",
) -> None:
    """Make a vector store of a running server hold what a folder holds.

    Unchanged files are skipped, changed ones replace their earlier version. A file is known by its
    path below --root: give the same one when you sync a part of the folder.
    """
    if not api_key:
        fail("set OPENAI_API_KEY or --api-key")
    with one_line_errors(), Uploader(url, api_key) as uploader:
        tree = Tree.of(path, root, include or (), exclude or ())
        if watch:
            _watch(uploader, tree, store, as_json)
        elif not tree.files() and not prune:
            fail(f"no files that can be read in {path}")
        elif not sync(uploader, tree, store, prune, as_json):
            raise typer.Exit(1)


def _watch(uploader: Uploader, tree: Tree, store: str, as_json: bool) -> None:
    """Syncs after every change, and until it succeeds: the server may restart meanwhile."""
    in_step = False
    for changed in changes(tree.path):
        if not changed and in_step:
            continue
        try:
            sync(uploader, tree, store, True, as_json)
            in_step = True
        except ServerError as error:
            err.print(f"engram: {error}; trying again")
            in_step = False


def sync(uploader: Uploader, tree: Tree, store: str, prune: bool, as_json: bool) -> bool:
    """Says what it will do, does it, and says how it went; False if a file failed."""
    began = time.monotonic()
    store_id = uploader.store(store)
    todo = uploader.plan(tree, store_id, prune=prune)
    tell = err if as_json else out
    tell.print(f"{store}: {todo}")
    with _progress(todo.work, store, tell) as report:
        sent = uploader.carry_out(todo, store_id, report)
    took_s = time.monotonic() - began
    _summarise(store_id, todo, sent, took_s, uploader.ingest_memory(), as_json)
    return not any(result.error for result in sent)


@contextmanager
def _progress(total: int, what: str, console: Console) -> Iterator[Callable[[Sent], None]]:
    """A bar; where the output is no terminal, a line now and then."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[chunks]} chunks, {task.fields[rate]:.1f} files/s"),
        TimeRemainingColumn(),
    )
    began, said, done, chunks = time.monotonic(), 0.0, 0, 0
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"ingesting {what}", total=total, chunks=0, rate=0.0)

        def report(sent: Sent) -> None:
            nonlocal said, done, chunks
            done, chunks = done + 1, chunks + sent.chunks
            took = time.monotonic() - began
            rate = done / max(took, 1e-3)
            bar.update(task, completed=done, chunks=chunks, rate=rate)
            if not console.is_terminal and took - said >= SAY_EVERY_S and done < total:
                said, left = took, (total - done) / rate
                console.print(
                    f"{done}/{total} files, {chunks} chunks, {rate:.1f} files/s, {left:.0f} s left"
                )

        yield report


def _summarise(
    store: str,
    todo: Plan,
    sent: list[Sent],
    took_s: float,
    memory_bytes: int | None,
    as_json: bool,
) -> None:
    """`memory_bytes`: the most that the server's ingest worker has held."""
    failed = [{"path": one.path, "reason": one.error} for one in sent if one.error]
    deleted = sum(one.deleted for one in sent)
    done = len(sent) - len(failed) - deleted
    chunks = sum(one.chunks for one in sent)
    if as_json:
        counts = {"ingested": done, "deleted": deleted, "unchanged": todo.unchanged}
        cost = {"chunks": chunks, "seconds": round(took_s, 3), "worker_memory_bytes": memory_bytes}
        print(json.dumps({"store": store, **counts, **cost, "failed": failed}))
        return
    for one in failed:
        err.print(f"{one['path']}: {one['reason']}")
    memory = f", worker up to {memory_bytes / MIB:.0f} MiB" if memory_bytes else ""
    say(
        f"{done} files in {took_s:.1f} s, {chunks} chunks{memory}; {deleted} deleted, "
        f"{todo.unchanged} unchanged, {len(failed)} failed"
    )

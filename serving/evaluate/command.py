"""`engram evaluate …`: measures answers and retrieval on a company's own questions."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from serving.errors import ServingError
from serving.evaluate.modes import MODES, Evaluation, Outcome, read, summarize, table
from serving.settings import ROOT, SettingsError, load

app = typer.Typer(help="Measure answers and retrieval on questions.", no_args_is_help=True)
err = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="OPENAI_BASE_URL", help="The server's /v1 address.")]
Key = Annotated[str, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="An API key.")]


@app.command()
def modes(
    questions: Annotated[
        Path,
        typer.Option(
            help="JSON lines: id, question or messages, kind, accept, form, file, modes.",
            exists=True,
            dir_okay=False,
        ),
    ] = ROOT / "deploy/demo/questions.jsonl",
    model: Annotated[str, typer.Option(help="The assistant to ask.")] = "helpdesk",
    mode: Annotated[list[str] | None, typer.Option(help="Ask only in this mode; repeat.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Write every answer here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    url: Url = "http://127.0.0.1:8000/v1",
    api_key: Key = "",
) -> None:
    """Ask every question in every mode and in `auto`; print which mode could answer what."""
    try:
        items = read(questions)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asked = mode or [str(one) for one in MODES]
    with Progress(console=err) as progress:
        task = progress.add_task(
            f"{len(items)} questions × {len(asked)}", total=len(items) * len(asked)
        )
        evaluation = Evaluation(url, api_key, model)
        try:
            outcomes = asyncio.run(evaluation.run(items, asked, lambda: progress.advance(task)))
        except httpx.HTTPError as error:
            err.print(f"{url}: {error}")
            raise typer.Exit(1) from None
    if answers:
        answers.write_text("".join(_line(outcome) for outcome in outcomes))
    rows = list(summarize(outcomes))
    typer.echo(json.dumps([asdict(row) for row in rows], indent=2) if as_json else table(rows))


@app.command()
def retrieval(
    questions: Annotated[
        Path,
        typer.Option(
            help="JSON lines: id, messages, relevant; with --folder or --store: question, file.",
            exists=True,
            dir_okay=False,
        ),
    ],
    passages: Annotated[
        Path | None,
        typer.Option(help="JSON lines: id, text, title.", exists=True, dir_okay=False),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Documents to search in this process.", exists=True, file_okay=False),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="A vector store of a running server, by name or id.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many questions.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = ROOT
    / ".engram/embeddings",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    url: Url = "http://127.0.0.1:8000/v1",
    api_key: Key = "",
) -> None:
    """Measure what is found: labelled passages give a table of metrics, files whether they are on
    top. Embedder, reranker and candidates are those of the ENGRAM_RETRIEVAL__… settings.
    """
    if [passages, folder, store].count(None) != 2:
        raise typer.BadParameter("give one of --passages, --folder and --store")
    from serving.evaluate import runs

    try:
        settings = load().retrieval
        if passages is not None:
            printed = runs.benchmark(passages, questions, limit, settings, cache, err)
        elif folder is not None:
            printed = runs.right_files_here(folder, questions, limit, settings, cache, err)
        else:
            assert store is not None
            printed = runs.right_files_there(store, questions, limit, url, api_key)
    except (ValueError, SettingsError, ServingError, httpx.HTTPError) as error:
        _fail(getattr(error, "message", str(error)))
    typer.echo(json.dumps(printed.as_json, indent=2) if as_json else printed.as_markdown)


def _fail(message: str) -> NoReturn:
    err.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(1)


def _line(outcome: Outcome) -> str:
    record = {
        "id": outcome.item.id,
        "kind": outcome.item.kind,
        "asked": outcome.asked,
        "mode": outcome.mode,
        "text": outcome.text,
        "value": outcome.value,
        "form": outcome.form,
        "cited": outcome.cited,
        "able": outcome.able,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"

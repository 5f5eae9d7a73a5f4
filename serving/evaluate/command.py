"""`engram evaluate …`: measures a running server on a company's own questions."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from serving.evaluate.modes import MODES, Evaluation, Outcome, read, summarize, table
from serving.settings import ROOT

app = typer.Typer(help="Measure a running server on your own questions.", no_args_is_help=True)
err = Console(stderr=True)

Url = Annotated[str, typer.Option(envvar="OPENAI_BASE_URL", help="The server's /v1 address.")]
Key = Annotated[str, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="An API key.")]


@app.callback()
def group() -> None:
    """Keeps `engram evaluate modes` a subcommand while it is the only one."""


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

"""`engram finetune …`: training data of documents and votes, and the gate before promotion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serving.commands.connection import HERE, AsJson, Key, Url, connected
from serving.commands.console import fail, say
from serving.commands.prepare import prepare, write_lines
from serving.commands.progress import each
from serving.finetune import gates, votes
from serving.finetune.gate_run import ask_all
from serving.finetune.preferences import line, pair
from serving.finetune.training_file import objection

app = typer.Typer(help="Training data, and the gate before promotion.", no_args_is_help=True)
app.command()(prepare)
GATES = ("form", "task", "reading", "following", "refusing")


@app.command()
def feedback(
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False)],
    assistant: Annotated[str | None, typer.Option(help="Only votes on this assistant.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Only votes on this version.")] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Turn votes into a preference file for dpo, and say which votes were of no use and why."""
    with connected(url, api_key) as server:
        known = votes.read(server, assistant, adapter)
        pairs, unused = pair(known)
        lines = []
        contexts = each("looking up", votes.Contexts(server).of, [one.vote for one in pairs])
        for one, context in zip(pairs, contexts, strict=True):
            if isinstance(context, str):
                unused[context] += 1
                continue
            made = line(one, context)
            if why := objection(made, "dpo"):
                unused[f"a job would refuse it: {why}"] += 1
            else:
                lines.append(made)
    write_lines(out, lines)
    _report(out, len(known), len(lines), unused, as_json)


def _report(out: Path, known: int, lines: int, unused: Counter[str], as_json: bool) -> None:
    if as_json:
        shown = {"votes": known, "pairs": lines, "unused": dict(unused)}
        typer.echo(json.dumps(shown, indent=2))
        return
    say(f"{lines} pairs of {known} votes in {out}")
    for why, count in unused.most_common():
        say(f"{count} not used: {why}")


@app.command()
def gate(
    adapter: Annotated[str, typer.Option(help="The version to judge, name@version.")],
    questions: Annotated[
        Path,
        typer.Option(help="questions.jsonl of `prepare`.", exists=True, dir_okay=False),
    ],
    waive: Annotated[
        list[str] | None, typer.Option(help="A gate that need not hold; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Ask a version the validation questions in every mode, and say whether it may be promoted.

    Exit code 1 if it may not. The gates: its answers have the house's form, it is better than the
    base at its task, and with passages it reads, follows and refuses no worse than the base.
    """
    _check_names(waive or ())
    with connected(url, api_key) as server:
        asked = gates.read(questions)
        results = ask_all(server, adapter, asked, each)
    found = gates.gates(asked, results)
    report = gates.Report(adapter, asked, results, found, tuple(waive or ()))
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else report.as_markdown())
    if not report.passed:
        raise typer.Exit(1)


def _check_names(waived: Sequence[str]) -> None:
    if strange := [name for name in waived if name not in GATES]:
        fail(f"there is no gate '{strange[0]}'; the gates are {', '.join(GATES)}")

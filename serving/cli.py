"""The `engram` command: starts and stops Engram on this machine and fills it with documents.

What a command prints is its only logic; each is in `commands/`, the work in
`deployments/cluster.py`, `upload.py` and the store. Ray is never imported here.
"""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from serving import settings as settings_module
from serving.commands import adapters, finetune, ingest, keys, server
from serving.evaluate import command as evaluate

app = typer.Typer(
    help="Engram, a self-hosted OpenAI-compatible answer engine. Settings are ENGRAM_… variables "
    "or a YAML file; `engram settings` lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (server.up, server.down, server.status, ingest.ingest):
    app.command()(command)
app.add_typer(keys.app, name="key")
app.add_typer(adapters.app, name="adapters")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(finetune.app, name="finetune")


@app.command("settings")
def show_settings() -> None:
    """List every setting: its variable, default and meaning."""
    table = Table("variable", "default", "meaning", box=None, pad_edge=False)
    for key, default, description in settings_module.fields():
        table.add_row(
            settings_module.PREFIX + key.upper().replace(".", "__"), str(default), description
        )
    Console(highlight=False).print(table)


def main() -> None:
    app()


if __name__ == "__main__":
    main()

"""What every command has in common: where it prints, how it fails, and how it reads settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from serving import settings as settings_module
from serving.deployments import cluster
from serving.errors import ServingError
from serving.remote import ServerError
from serving.settings import Settings, SettingsError

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(highlight=False, soft_wrap=True, markup=False, stderr=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings; ENGRAM_… variables win over it."),
]


def read_settings(config: Path | None) -> Settings:
    """The settings, with paths that hold in every process, whatever its working directory."""
    try:
        settings = settings_module.load(file=config)
    except (SettingsError, OSError) as error:
        fail(str(error))
    engine, model = settings.engine, Path(settings.engine.model)
    if model.is_dir():
        engine = engine.model_copy(update={"model": str(model.resolve())})
    return settings.model_copy(update={"data": settings.data.resolve(), "engine": engine})


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (cluster.ClusterError, ServerError, ServingError) as error:
        fail(str(error))


def say(line: str) -> None:
    out.print(line)


def fail(line: str) -> NoReturn:
    err.print(f"engram: {line}")
    raise typer.Exit(1)

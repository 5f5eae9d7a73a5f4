"""The `engram` command: starts and stops Engram on this machine and fills it with documents.

What a command prints is its only logic; the work is in `deployments/cluster.py`, `upload.py` and
the store. Ray is never imported here.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import psutil
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from serving import settings as settings_module
from serving.deployments import cluster
from serving.deployments import run as runs
from serving.errors import ServingError
from serving.evaluate import command as evaluate
from serving.settings import EngineSettings, RetrievalSettings, Settings, SettingsError
from serving.types import TenantId
from serving.upload import Plan, Sent, Tree, Uploader, UploadError
from serving.watch import changes

GIB = 2**30
_MEMORY_GIB = {"vllm": 5.0, "scripted": 2.5}  # what the whole cluster was seen to use, and 1
_DISK_GIB = 1.0

app = typer.Typer(
    help="Engram, a self-hosted OpenAI-compatible answer engine. Settings are ENGRAM_… variables "
    "or a YAML file; `engram settings` lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="key")
app.add_typer(evaluate.app, name="evaluate")

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(highlight=False, soft_wrap=True, markup=False, stderr=True)
SAY_EVERY_S = 5.0  # how ingest goes, where no bar can be drawn

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings; ENGRAM_… variables win over it."),
]


@app.command()
def up(
    config: ConfigFile = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until SIGTERM or Ctrl-C, then stop everything.")
    ] = False,
) -> None:
    """Start Engram in the background; returns when it answers. Again is harmless."""
    settings = _settings(config)
    is_demo = settings.engine.model == EngineSettings().model
    if is_demo:
        settings = _for_demo(settings)
    with _one_line_errors():
        if not runs.find(settings.data):
            _check_machine(settings, is_demo)
        key = _seed(settings) if is_demo else None
        url = _start(settings)
        if key:
            _ingest_demo(f"{url}/v1", key)
    _banner(f"{url}/v1", key)
    if wait:
        _wait_for_the_end(settings)


@app.command()
def down(config: ConfigFile = None) -> None:
    """Stop everything that `up` started, and nothing else. Documents and keys stay."""
    settings = _settings(config)
    with _one_line_errors():
        stopped = cluster.stop(settings.data, _say)
    _say("stopped" if stopped else f"nothing runs in {settings.data}")


@app.command()
def status(config: ConfigFile = None) -> None:
    """Show whether Engram runs here, its address and what it uses. Exit code 1 if not ready."""
    settings = _settings(config)
    run = runs.find(settings.data)
    if run is None:
        _say(f"nothing runs in {settings.data}{cluster.last_words(settings.data)}")
        raise typer.Exit(1)
    parts, led = runs.readiness(run), runs.is_led(run)
    ready = bool(parts) and all(parts.values())
    members = runs.processes(run)
    memory = sum(_memory_bytes(process) for process in members)
    missing = [part for part, is_ready in parts.items() if not is_ready]
    _say(f"{'ready' if ready else 'not ready'} at {run.url}" + _listed(": waits for", missing))
    if not led:
        why = cluster.last_words(settings.data)
        _say(f"what dies is not replaced, `engram up` starts again{why}")
    _say(f"model {run.settings['ENGRAM_ENGINE__MODEL']}, data in {settings.data}")
    replicas = [f"{name} {count}" for name, count in sorted(runs.replicas(run).items())]
    minutes = (time.time() - run.started) / 60
    _say(
        f"{len(members)} processes, {memory / GIB:.1f} GiB, for {minutes:.0f} min"
        + _listed("; replicas:", replicas)
    )
    raise typer.Exit(0 if ready and led else 1)


@app.command()
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
        _fail("set OPENAI_API_KEY or --api-key")
    with _one_line_errors(), Uploader(url, api_key) as uploader:
        tree = Tree.of(path, root, include or (), exclude or ())
        if watch:
            _watch(uploader, tree, store, as_json)
        elif not tree.files() and not prune:
            _fail(f"no files that can be read in {path}")
        elif not _sync(uploader, tree, store, prune, as_json):
            raise typer.Exit(1)


def _watch(uploader: Uploader, tree: Tree, store: str, as_json: bool) -> None:
    """Syncs after every change, and until it succeeds: the server may restart meanwhile."""
    in_step = False
    for changed in changes(tree.path):
        if not changed and in_step:
            continue
        try:
            _sync(uploader, tree, store, True, as_json)
            in_step = True
        except UploadError as error:
            err.print(f"engram: {error}; trying again")
            in_step = False


def _sync(uploader: Uploader, tree: Tree, store: str, prune: bool, as_json: bool) -> bool:
    """Says what it will do, does it, and says how it went; False if a file failed."""
    began = time.monotonic()
    store_id = uploader.store(store)
    todo = uploader.plan(tree, store_id, prune=prune)
    tell = err if as_json else out
    tell.print(f"{store}: {todo}")
    with _progress(todo.work, store, tell) as report:
        sent = uploader.carry_out(todo, store_id, report)
    _summarise(store_id, todo, sent, time.monotonic() - began, as_json)
    return not any(result.error for result in sent)


@keys.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Who the key belongs to; created if new.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    admin: Annotated[bool, typer.Option("--admin", help="Also allow /admin.")] = False,
    config: ConfigFile = None,
) -> None:
    """Create an API key and print it, once."""
    from serving.app import open_store  # half a second that no other command should pay

    with _one_line_errors():
        store = open_store(_settings(config))
        store.keys.ensure_tenant(TenantId(tenant))
        scopes = ("inference", "admin") if admin else ("inference",)
        print(store.keys.create(TenantId(tenant), name, scopes))


@keys.command("list")
def list_keys(
    tenant: Annotated[str, typer.Option(help="Whose keys.")], config: ConfigFile = None
) -> None:
    """Show a tenant's keys: id, first letters, name and whether they still hold."""
    from serving.app import open_store

    with _one_line_errors():
        for key in open_store(_settings(config)).keys.list(TenantId(tenant)):
            state = "revoked" if key.revoked_at else "valid"
            _say(f"{key.id}  {key.prefix}…  {state}  {' '.join(key.scopes)}  {key.name}")


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key's id, as `engram key list` shows it.")],
    config: ConfigFile = None,
) -> None:
    """End a key for good, on every replica within 5 seconds."""
    from serving.app import open_store

    with _one_line_errors():
        open_store(_settings(config)).keys.revoke(key)
        _say(f"revoked {key}")


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


def _settings(config: Path | None) -> Settings:
    """The settings, with paths that hold in every process, whatever its working directory."""
    try:
        settings = settings_module.load(file=config)
    except (SettingsError, OSError) as error:
        _fail(str(error))
    engine, model = settings.engine, Path(settings.engine.model)
    if model.is_dir():
        engine = engine.model_copy(update={"model": str(model.resolve())})
    return settings.model_copy(update={"data": settings.data.resolve(), "engine": engine})


def _check_machine(settings: Settings, is_demo: bool) -> None:
    """One clear line instead of a start that dies half way."""
    engine = settings.engine
    available = psutil.virtual_memory().available / GIB
    if available < _MEMORY_GIB[engine.kind]:
        need = f"{_MEMORY_GIB[engine.kind]:.0f} GiB of memory"
        _fail(f"Engram needs {need}, {available:.1f} GiB is available: close something")
    free = psutil.disk_usage(str(_existing(settings.data))).free / GIB
    if free < _DISK_GIB:
        _fail(f"{settings.data} has {free:.1f} GiB of free disk, {_DISK_GIB:.0f} GiB is needed")
    if engine.kind == "vllm" and is_demo and not list(Path(engine.model).glob("*.safetensors")):
        _fail("the demo model is not there: run `make demo-model`, or set MODEL=")


def _for_demo(settings: Settings) -> Settings:
    """Cuts documents as the demo model reads best, unless the operator has said otherwise."""
    from deploy.demo.seed import CHUNK_TOKENS

    if settings.retrieval.chunk_tokens != RetrievalSettings().chunk_tokens:
        return settings
    retrieval = settings.retrieval.model_copy(update={"chunk_tokens": CHUNK_TOKENS})
    return settings.model_copy(update={"retrieval": retrieval})


def _seed(settings: Settings) -> str:
    from deploy.demo import seed
    from serving.app import open_store

    _say("preparing the demo: tenant, key, assistant `helpdesk`")
    return seed.seed(settings, open_store(settings))


def _ingest_demo(url: str, key: str) -> None:
    from deploy.demo import seed

    with Uploader(url, key) as uploader:
        _sync(uploader, seed.documents(), seed.STORE, False, False)


def _start(settings: Settings) -> str:
    began = time.monotonic()
    with out.status("starting") as spinner:

        def report(line: str) -> None:
            _say(f"{time.monotonic() - began:5.1f} s  {line}")
            spinner.update(line)

        started = cluster.start(settings, report)
    run = runs.find(settings.data)
    if run is None:
        raise cluster.ClusterError("everything ended right after the start")
    took = f"up after {time.monotonic() - began:.0f} s" if started else "already up"
    _say(f"{took} at {run.url}")
    return run.url


def _wait_for_the_end(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while (run := runs.find(settings.data)) and runs.is_led(run):
            time.sleep(2)
        cluster.stop(settings.data, _say)
        _fail(f"the cluster ended by itself{cluster.last_words(settings.data)}")
    except KeyboardInterrupt:
        cluster.stop(settings.data, _say)


def _banner(url: str, key: str | None) -> None:
    shown = key or "…  # engram key create --tenant NAME --name NAME"
    print(f"\nexport OPENAI_BASE_URL={url}\nexport OPENAI_API_KEY={shown}\n")
    if key:
        print(_DEMO)


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


def _summarise(store: str, todo: Plan, sent: list[Sent], took_s: float, as_json: bool) -> None:
    failed = [{"path": one.path, "reason": one.error} for one in sent if one.error]
    deleted = sum(one.deleted for one in sent)
    done = len(sent) - len(failed) - deleted
    chunks = sum(one.chunks for one in sent)
    if as_json:
        counts = {"ingested": done, "deleted": deleted, "unchanged": todo.unchanged}
        times = {"chunks": chunks, "seconds": round(took_s, 3)}
        print(json.dumps({"store": store, **counts, **times, "failed": failed}))
        return
    for one in failed:
        err.print(f"{one['path']}: {one['reason']}")
    _say(
        f"{done} files in {took_s:.1f} s, {chunks} chunks; {deleted} deleted, "
        f"{todo.unchanged} unchanged, {len(failed)} failed"
    )


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (cluster.ClusterError, UploadError, ServingError) as error:
        _fail(str(error))


def _listed(title: str, names: list[str]) -> str:
    return f"{title} {', '.join(names)}" if names else ""


def _say(line: str) -> None:
    out.print(line)


def _fail(line: str) -> NoReturn:
    err.print(f"engram: {line}")
    raise typer.Exit(1)


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


_ASK = """\
curl {flags} $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \
-H 'Content-Type: application/json' -d '{body}'
"""
_DEMO = "\n".join(
    (
        _ASK.format(
            flags="-sN",
            body='{"model": "helpdesk", "stream": true, "messages": '
            '[{"role": "user", "content": "Ticket: for how long is my badge valid?"}]}',
        ),
        _ASK.format(
            flags="-s",
            body='{"model": "helpdesk:rag", "messages": '
            '[{"role": "user", "content": "Which company repairs broken laptops?"}]}',
        ),
        'curl -s $OPENAI_BASE_URL/models -H "Authorization: Bearer $OPENAI_API_KEY"\n',
        f"{sys.executable} - <<'E'",
        "from openai import OpenAI",
        'messages = [{"role": "user", "content": "Ticket: for how long is my badge valid?"}]',
        "answer = OpenAI().chat.completions.create(model='helpdesk', messages=messages)",
        "print(answer.choices[0].message.content)",
        "E",
    )
)

if __name__ == "__main__":
    main()

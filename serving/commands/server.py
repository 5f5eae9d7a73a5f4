"""`engram up`, `down` and `status`: Engram on this machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from serving.commands import demo
from serving.commands.console import ConfigFile, fail, one_line_errors, out, read_settings, say
from serving.deployments import cluster
from serving.deployments import run as runs
from serving.settings import EngineSettings, Settings

GIB = 2**30
_MEMORY_GIB = {"vllm": 5.0, "scripted": 2.5}  # what the whole cluster was seen to use, and 1
_DISK_GIB = 1.0


def up(
    config: ConfigFile = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until SIGTERM or Ctrl-C, then stop everything.")
    ] = False,
) -> None:
    """Start Engram in the background; returns when it answers. Again is harmless."""
    settings = read_settings(config)
    is_demo = settings.engine.model == EngineSettings().model
    if is_demo:
        settings = demo.for_demo(settings)
    with one_line_errors():
        if not runs.find(settings.data):
            _check_machine(settings, is_demo)
        key = demo.seed(settings) if is_demo else None
        url = _start(settings)
        if key:
            demo.ingest_demo(f"{url}/v1", key)
    demo.banner(f"{url}/v1", key)
    if wait:
        _wait_for_the_end(settings)


def down(config: ConfigFile = None) -> None:
    """Stop everything that `up` started, and nothing else. Documents and keys stay."""
    settings = read_settings(config)
    with one_line_errors():
        stopped = cluster.stop(settings.data, say)
    say("stopped" if stopped else f"nothing runs in {settings.data}")


def status(config: ConfigFile = None) -> None:
    """Show whether Engram runs here, its address and what it uses. Exit code 1 if not ready."""
    settings = read_settings(config)
    run = runs.find(settings.data)
    if run is None:
        say(f"nothing runs in {settings.data}{cluster.last_words(settings.data)}")
        raise typer.Exit(1)
    parts, led = runs.readiness(run), runs.is_led(run)
    ready = bool(parts) and all(parts.values())
    members = runs.processes(run)
    memory = sum(_memory_bytes(process) for process in members)
    missing = [part for part, is_ready in parts.items() if not is_ready]
    say(f"{'ready' if ready else 'not ready'} at {run.url}" + _listed(": waits for", missing))
    if not led:
        why = cluster.last_words(settings.data)
        say(f"what dies is not replaced, `engram up` starts again{why}")
    say(f"model {run.settings['ENGRAM_ENGINE__MODEL']}, data in {settings.data}")
    replicas = [f"{name} {count}" for name, count in sorted(runs.replicas(run).items())]
    minutes = (time.time() - run.started) / 60
    say(
        f"{len(members)} processes, {memory / GIB:.1f} GiB, for {minutes:.0f} min"
        + _listed("; replicas:", replicas)
    )
    raise typer.Exit(0 if ready and led else 1)


def _check_machine(settings: Settings, is_demo: bool) -> None:
    """One clear line instead of a start that dies half way."""
    engine = settings.engine
    available = psutil.virtual_memory().available / GIB
    if available < _MEMORY_GIB[engine.kind]:
        need = f"{_MEMORY_GIB[engine.kind]:.0f} GiB of memory"
        fail(f"Engram needs {need}, {available:.1f} GiB is available: close something")
    free = psutil.disk_usage(str(_existing(settings.data))).free / GIB
    if free < _DISK_GIB:
        fail(f"{settings.data} has {free:.1f} GiB of free disk, {_DISK_GIB:.0f} GiB is needed")
    if engine.kind == "vllm" and is_demo and not list(Path(engine.model).glob("*.safetensors")):
        fail("the demo model is not there: run `make demo-model`, or set MODEL=")


def _start(settings: Settings) -> str:
    began = time.monotonic()
    with out.status("starting") as spinner:

        def report(line: str) -> None:
            say(f"{time.monotonic() - began:5.1f} s  {line}")
            spinner.update(line)

        started = cluster.start(settings, report)
    run = runs.find(settings.data)
    if run is None:
        raise cluster.ClusterError("everything ended right after the start")
    took = f"up after {time.monotonic() - began:.0f} s" if started else "already up"
    say(f"{took} at {run.url}")
    return run.url


def _wait_for_the_end(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while (run := runs.find(settings.data)) and runs.is_led(run):
            time.sleep(2)
        cluster.stop(settings.data, say)
        fail(f"the cluster ended by itself{cluster.last_words(settings.data)}")
    except KeyboardInterrupt:
        cluster.stop(settings.data, say)


def _listed(title: str, names: list[str]) -> str:
    return f"{title} {', '.join(names)}" if names else ""


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)

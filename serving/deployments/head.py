"""The process that leads a cluster on one machine: starts Ray, deploys, waits, stops in reverse.

Prints a line that begins with `PREFIX` for each step, and `READY` when every replica is healthy.
SIGTERM lets the replicas finish what they stream, then ends HAProxy and Ray. When a process of
Ray's own dies, the head says so and ends: replicas go on, but nobody would replace them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

import psutil
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.schema import DeploymentStatus, LoggingConfig

from serving.deployments.application import NAME, application
from serving.deployments.progress import READY, say
from serving.settings import Settings, load

_PARTS = {
    "retriever": "retriever (embedder and indexes)",
    "ingest": "ingest (reads files into stores)",
    "finetune": "fine-tuning (trains adapters)",
    "gateway": "gateway (HTTP API and engine)",
}
_STATES = {
    DeploymentStatus.UPDATING: "starting",
    DeploymentStatus.HEALTHY: "ready",
    DeploymentStatus.UNHEALTHY: "failing",
    DeploymentStatus.DEPLOY_FAILED: "failed",
}
_NEEDED = ("raylet", "gcs_server")
_WATCH_S = 1.0
_OBJECT_STORE_BYTES = 128 * 2**20  # calls carry passages and token counts, nothing large


def main(temp: str) -> int:
    settings = load()
    signal.signal(signal.SIGTERM, _exit)
    try:
        _start_ray(settings, temp)
        _deploy(settings)
        say(READY)
        _lead()
    except RuntimeError as error:  # Serve's only word for a deployment that failed
        say(_reason() or str(error))
        return 1
    except RayError as error:
        say(str(error).splitlines()[0])
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve.shutdown()
        ray.shutdown()


def _lead() -> NoReturn:
    """Until SIGTERM; or ends at once when a process is lost that Ray cannot do without."""
    needed = {p.name(): p for p in psutil.Process().children() if p.name() in _NEEDED}
    while not (lost := [name for name, process in needed.items() if not _is_alive(process)]):
        time.sleep(_WATCH_S)
    say(f"Ray's {lost[0]} has ended")
    os._exit(1)  # Ray's own way out would wait for what is gone


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _start_ray(settings: Settings, temp: str) -> None:
    server = settings.server
    retrievers = settings.retrieval.shards * server.retriever_replicas
    say("starting Ray")
    ray.init(
        # Logical CPUs: a replica asks for one each, jobs share the rest, whatever the machine has.
        num_cpus=max(
            os.cpu_count() or 1,
            server.gateway_replicas
            + retrievers
            + server.ingest_workers
            + server.finetune_workers
            + 1,
        ),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=temp,
    )
    signal.signal(signal.SIGTERM, _exit)  # Ray has put its own in place


def _deploy(settings: Settings) -> None:
    server = settings.server
    say("starting Ray Serve and HAProxy")
    serve.start(
        http_options=HTTPOptions(host=server.host, port=server.port),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    done = threading.Event()
    threading.Thread(target=_say_changes, args=(done,), daemon=True).start()
    try:
        serve.run(application(settings), name=NAME)
    finally:
        done.set()


def _reason() -> str | None:
    """The last line of the traceback of the first replica that failed."""
    if application := serve.status().applications.get(NAME):
        for name, deployment in application.deployments.items():
            lines = [line for line in deployment.message.splitlines() if line.strip()]
            if deployment.status != DeploymentStatus.HEALTHY and lines:
                return f"{name}: {lines[-1].strip()}"
    return None


def _say_changes(done: threading.Event) -> None:
    seen: dict[str, str] = {}
    while not done.wait(0.5):
        if state := serve.status().applications.get(NAME):
            for name, deployment in state.deployments.items():
                if seen.get(name) != deployment.status:
                    seen[name] = deployment.status
                    say(f"{_part(name)}: {_STATES.get(deployment.status, deployment.status)}")


def _part(deployment: str) -> str:
    """`retriever-0` is the first shard's."""
    name, _, shard = deployment.partition("-")
    return _PARTS[name] + (f", shard {shard}" if shard else "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A whole Engram started with the `engram` command, in a data folder of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from serving.deployments import run as runs

WORDS = "ServeReplica:engram:{}"


@dataclass(frozen=True)
class Server:
    """`environ` is what every further `engram` command for it must run with."""

    base_url: str
    api_key: str
    data: Path
    environ: dict[str, str]

    @property
    def run(self) -> runs.Run:
        run = runs.find(self.data)
        assert run is not None
        return run

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=120,
            trust_env=False,
        )

    def replica(self, deployment: str) -> psutil.Process | None:
        """The process of a deployment's only replica, once it has its name."""
        title = WORDS.format(deployment)
        for process in runs.processes(self.run):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if title in " ".join(process.cmdline()):
                    return process
        return None


def engram(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
    )


@contextmanager
def running(data: Path, settings: dict[str, str]) -> Iterator[Server]:
    port = free_port()
    environ = environment(data, {"ENGRAM_SERVER__PORT": str(port)} | settings)
    up = engram("up", environ=environ)
    try:
        assert up.returncode == 0, up.stdout + up.stderr + _log(data)
        key = (data / "demo-key").read_text()
        yield Server(f"http://127.0.0.1:{port}/v1", key, data, environ)
    finally:
        engram("down", environ=environ)


def environment(data: Path, settings: dict[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENGRAM_", "OPENAI_"))
    }
    return inherited | {"ENGRAM_DATA": str(data)} | settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(holds: Callable[[], bool], within_s: float) -> float:
    """Waits until `holds`; returns how long that took."""
    began = time.monotonic()
    while not holds():
        took = time.monotonic() - began
        assert took < within_s, f"not within {within_s} s"
        time.sleep(0.2)
    return time.monotonic() - began


def _log(data: Path) -> str:
    file = data / "logs" / "cluster.log"
    return file.read_text()[-4000:] if file.exists() else ""

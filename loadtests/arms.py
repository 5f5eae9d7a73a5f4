"""Starts and stops the servers that the benchmark compares, each with its own ports and folders.

An arm is up when its health path answers 200. Leaving it ends every process it started, whatever
happened meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import orjson

from loadtests.client import Target
from loadtests.processes import Tree
from serving.generation.vllm_arguments import engine_arguments, environment
from serving.settings import ROOT, EngineSettings, ServerSettings, Settings, to_environ

START_S = 420.0  # vLLM imports for a minute on a busy machine
STOP_S = 30.0
_OTHERS = ("RAY_", "ENGRAM_", "PROMETHEUS_", "SERVE_", "VLLM_", "OMP_")


class ArmError(RuntimeError):
    """An arm cannot start; the message names the arm, the cause and its log's last lines."""


@dataclass
class Arm:
    """One server. Subclasses say what to run and where it listens."""

    name: str
    engine: EngineSettings
    health: str = "/health"
    target: Target = field(init=False)
    tree: Tree = field(init=False)
    folder: Path = field(init=False)
    _process: asyncio.subprocess.Process | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def variables(self) -> Mapping[str, str]:
        return to_environ(Settings(engine=self.engine))

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="elt-"))  # short: Ray puts sockets below it
        self.tree = Tree(secrets.token_hex(8))
        self.target = Target(free_port())
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    async def _start(self) -> None:
        self._process = await self.spawn(self.command())
        await self.until_ready(self._process)

    async def _end(self) -> None:
        """Asks the first process to end, then ends what is left. Ctrl-C does not hurry it."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            await self.stop()
        finally:
            await asyncio.to_thread(self.tree.kill)
            shutil.rmtree(self.folder, ignore_errors=True)
            signal.signal(signal.SIGINT, before)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await _wait(self._process)

    async def spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        """Runs a Python module in a session of its own; what it says is in the arm's log."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        ours = {"PYTHONPATH": str(ROOT), **self.variables(), **self.tree.environment}
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command,
                env=inherited | ours,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until_ready(self, process: asyncio.subprocess.Process) -> None:
        url = f"http://{self.target.host}:{self.target.port}{self.health}"
        try:
            async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as http:
                while not await _answers(http, url):
                    if process.returncode is not None:
                        raise self.error(f"its process ended with {process.returncode}")
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise self.error(f"not ready after {START_S:.0f} s") from None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def error(self, cause: str) -> ArmError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return ArmError("\n  ".join([f"{self.name}: {cause}", *lines[-15:]]))


@dataclass
class Engram(Arm):
    """Engram as `engram up` starts it: Ray Serve behind HAProxy, with state of its own."""

    modes: tuple[str, ...] = ()  # of the demo's assistant

    def command(self) -> list[str]:
        return ["serving.cli", "up"]

    def variables(self) -> Mapping[str, str]:
        server = ServerSettings(port=self.target.port)
        settings = Settings(engine=self.engine, server=server, data=self.folder / "data")
        return to_environ(settings)

    async def _start(self) -> None:
        self._process = await self.spawn(self.command())
        async with asyncio.timeout(START_S):
            if await self._process.wait():
                raise self.error("`engram up` failed")
        self.target = Target(self.target.port, api_key=await self._create_key())

    async def _create_key(self) -> str:
        tenant = "demo" if self.has_demo else "loadtest"
        before = self.log.stat().st_size
        arguments = ["key", "create", "--tenant", tenant, "--name", "loadtest"]
        process = await self.spawn(["serving.cli", *arguments])
        said = self.log.read_bytes()[before:].split() if not await process.wait() else []
        if not said:
            raise self.error("`engram key create` failed")
        return said[-1].decode()

    @property
    def has_demo(self) -> bool:
        return self.engine.model == EngineSettings().model

    async def stop(self) -> None:
        if self._process is not None:
            await _wait(await self.spawn(["serving.cli", "down"]), 2 * STOP_S)


class BareVllm(Arm):
    """vLLM's own API server on the same engine arguments and environment."""

    def command(self) -> list[str]:
        port = ["--port", str(self.target.port), "--host", self.target.host]
        flags = command_line(engine_arguments(self.engine))
        return ["vllm.entrypoints.openai.api_server", *flags, *port]

    def variables(self) -> Mapping[str, str]:
        return environment(self.engine)


class Relay(Arm):
    """Two deployments with Ray's defaults."""

    def command(self) -> list[str]:
        temp = str(self.folder / "ray")
        return ["loadtests.relay", "--port", str(self.target.port), "--temp", temp]


class Plain(Arm):
    """The engine behind FastAPI and uvicorn alone."""

    def command(self) -> list[str]:
        return ["loadtests.plain", "--port", str(self.target.port)]


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """vLLM's keyword arguments as the flags of its command line."""
    flags: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Mapping):
            flags += [f"--{flag}", orjson.dumps(value).decode()]
        elif value not in (None, ""):
            flags += [f"--{flag}", str(value)]
    return flags


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


async def _wait(process: asyncio.subprocess.Process, limit_s: float = STOP_S) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await process.wait()
    except TimeoutError:
        pass  # `Tree.kill` follows

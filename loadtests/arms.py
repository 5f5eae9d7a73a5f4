"""Starts and stops the servers that the benchmark compares, each with its own ports and folders.

An arm is up when its health path answers 200. `running` ends every process that was started,
whatever happened meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from loadtests.client import Target
from loadtests.processes import Tree
from serving.generation.vllm_arguments import engine_arguments, environment
from serving.settings import ROOT, EngineSettings, ServerSettings, Settings, to_environ

START_S = 600.0  # vLLM imports for a minute on a busy machine
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

    async def start(self) -> None:
        """Returns when the arm answers.

        Raises:
            ArmError: it does not; `stop` is still due.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="elt-"))  # short: Ray puts sockets below it
        self.tree = Tree(secrets.token_hex(8))
        self.target = Target(free_port())
        self._process = await self.spawn(self.command())
        await self.until_ready(self._process)

    async def stop(self) -> None:
        """Asks the first process to end, then ends what is left."""
        if self._process is None:
            return
        try:
            await self.end(self._process)
        finally:
            await asyncio.to_thread(self.tree.kill)
            shutil.rmtree(self.folder, ignore_errors=True)

    async def end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.terminate()
            await _wait(process)

    async def spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        """Runs a Python module in a session of its own; what it says is in the arm's log."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        ours = {"PYTHONPATH": str(ROOT), **self.variables(), **self.tree.environment}
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
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
        self.tree.lead(process.pid)
        return process

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
        """With the end of every log the arm wrote, since they go with its folder."""
        logs = [self.log, *self.folder.glob("data/logs/*.log")]
        lines = [line for log in logs for line in _last_lines(log, 15)]
        return ArmError("\n  ".join([f"{self.name}: {cause}", *lines]))


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

    async def until_ready(self, process: asyncio.subprocess.Process) -> None:
        """`engram up` ends when Engram answers."""
        try:
            async with asyncio.timeout(START_S):
                if await process.wait():
                    raise self.error("`engram up` failed")
        except TimeoutError:
            raise self.error(f"not ready after {START_S:.0f} s") from None
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

    async def end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:  # still starting; it ends what it started
            await super().end(process)
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


@asynccontextmanager
async def running(arms: Sequence[Arm], say: Callable[[str], None]) -> AsyncIterator[None]:
    """Starts arms together and stops them together.

    Raises:
        ArmError: one did not start, twice; on a busy machine Ray gives up after 30 s.
    """

    async def start(arm: Arm) -> None:
        try:
            await arm.start()
        except ArmError as error:
            say(f"{str(error).splitlines()[0]}; trying once more")
            await arm.stop()
            await arm.start()
        say(f"{arm.name} is up")

    say(f"starting {', '.join(arm.name for arm in arms)}")
    try:
        try:
            async with asyncio.TaskGroup() as group:
                for arm in arms:
                    group.create_task(start(arm))
        except* ArmError as failed:
            raise failed.exceptions[0] from None
        yield
    finally:
        say("stopping them")
        await asyncio.gather(*(arm.stop() for arm in arms))


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


def _last_lines(log: Path, count: int) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []


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

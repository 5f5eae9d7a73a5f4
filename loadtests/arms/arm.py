"""One server that the benchmark compares, with its own port and folder.

An arm is up when its health path answers 200.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loadtests.client import Target
from loadtests.processes import Tree
from serving.settings import ROOT, EngineSettings, Settings, to_environ

START_S = 600.0  # vLLM imports for a minute on a busy machine
STOP_S = 30.0
_OTHERS = ("RAY_", "ENGRAM_", "PROMETHEUS_", "SERVE_", "VLLM_", "OMP_")


class ArmError(RuntimeError):
    """An arm cannot start; the message names the arm, the cause and its log's last lines."""


class Unavailable(ArmError):
    """What the arm runs cannot be had on this machine; the message says why."""


@dataclass
class Arm:
    """One server. Subclasses say what to run and where it listens."""

    name: str
    engine: EngineSettings
    health: str = field(default="/health", kw_only=True)
    target: Target = field(init=False)
    tree: Tree = field(init=False)
    folder: Path = field(init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return sys.executable

    @property
    def needs(self) -> Arm | None:
        """The arm that must be up before this one starts."""
        return None

    async def prepare(self, say: Callable[[str], None]) -> None:
        """Fetches what the arm runs, if it is not there.

        Raises:
            Unavailable: it cannot be had.
        """

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
            await wait(process)

    async def spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        """Runs a Python module in a session of its own; what it says is in the arm's log."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        ours = {"PYTHONPATH": str(ROOT), **self.variables(), **self.tree.environment}
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                self.python,
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


async def wait(process: asyncio.subprocess.Process, limit_s: float = STOP_S) -> None:
    """Until it ended, or the time is over."""
    try:
        async with asyncio.timeout(limit_s):
            await process.wait()
    except TimeoutError:
        pass  # `Tree.kill` follows

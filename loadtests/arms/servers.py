"""The servers that run an engine themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from loadtests.arms.arm import START_S, STOP_S, Arm, wait
from loadtests.arms.packages import install, packages
from loadtests.client import CHAT, Target
from serving.generation.vllm_arguments import engine_arguments, environment
from serving.settings import (
    ROOT,
    AdmissionSettings,
    EngineSettings,
    ServerSettings,
    Settings,
    to_environ,
)

SERVE_LLM = ROOT / "loadtests/serve-llm-requirements.txt"


@dataclass
class Engram(Arm):
    """Engram as `engram up` starts it: Ray Serve behind HAProxy, with state of its own."""

    modes: tuple[str, ...] = ()  # of the demo's assistant
    sections: Mapping[str, Any] = field(default_factory=dict)  # of `Settings`, besides the engine

    def command(self) -> list[str]:
        return ["serving.cli", "up"]

    def variables(self) -> Mapping[str, str]:
        given = {
            "server": ServerSettings(port=self.target.port),
            "admission": AdmissionSettings(max_running=self.engine.max_num_seqs),
            **self.sections,
        }
        return to_environ(Settings(engine=self.engine, data=self.folder / "data", **given))

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
        await wait(await self.spawn(["serving.cli", "down"]), 2 * STOP_S)


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


@dataclass
class ServeLlm(Arm):
    """Ray Serve LLM's default app, `ray.serve.llm.build_openai_app`, with Ray's defaults."""

    health: str = field(default="/v1/models", kw_only=True)

    async def prepare(self, say: Callable[[str], None]) -> None:
        await install(SERVE_LLM, say)

    def command(self) -> list[str]:
        temp = str(self.folder / "ray")
        return ["loadtests.serve_llm", "--port", str(self.target.port), "--temp", temp]

    def variables(self) -> Mapping[str, str]:
        path = f"{packages(SERVE_LLM)}:{ROOT}"
        return {**environment(self.engine), **super().variables(), "PYTHONPATH": path}

    async def until_ready(self, process: asyncio.subprocess.Process) -> None:
        """Its ingress answers before its engine does, so one question is asked."""
        await super().until_ready(process)
        question = {"role": "user", "content": "Are you there?"}
        body = {"model": self.engine.served_name, "messages": [question], "max_tokens": 1}
        url = f"http://{self.target.host}:{self.target.port}{CHAT}"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=START_S) as http:
                (await http.post(url, json=body)).raise_for_status()
        except httpx.HTTPError as error:
            raise self.error(f"its first answer failed: {error}") from None


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

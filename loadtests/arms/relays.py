"""Gateways in front of another arm's server, as one would build or buy them.

Their `tree` counts the gateway alone; with that of `upstream` it is the whole path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from loadtests.arms.arm import Arm
from loadtests.arms.packages import folder_of, install
from loadtests.client import Target
from serving.settings import ROOT

REQUIREMENTS = ROOT / "loadtests/litellm-requirements.txt"


@dataclass
class HttpRelay(Arm):
    """FastAPI and httpx, one process."""

    upstream: Arm

    @property
    def needs(self) -> Arm:
        return self.upstream

    async def start(self) -> None:
        await super().start()
        self.target = Target(self.target.port, api_key=self.upstream.target.api_key)

    def command(self) -> list[str]:
        port = str(self.target.port)
        return ["loadtests.http_relay", "--port", port, "--upstream", _url(self.upstream.target)]


@dataclass
class LiteLlm(Arm):
    """LiteLLM's proxy, one process, no database, in an environment of its own."""

    upstream: Arm
    health: str = field(default="/health/liveliness", kw_only=True)

    @property
    def needs(self) -> Arm:
        return self.upstream

    @property
    def python(self) -> str:
        return str(folder_of(REQUIREMENTS) / "bin/python")

    async def prepare(self, say: Callable[[str], None]) -> None:
        await install(REQUIREMENTS, say)

    def command(self) -> list[str]:
        config = self.folder / "litellm.yaml"
        config.write_bytes(orjson.dumps(self._config()))  # JSON is YAML
        listen = ["--host", self.target.host, "--port", str(self.target.port)]
        return ["litellm.proxy.proxy_cli", "--config", str(config), *listen]

    def variables(self) -> Mapping[str, str]:
        """Nothing is fetched or sent at the start."""
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}

    def _config(self) -> dict[str, object]:
        name, target = self.engine.served_name, self.upstream.target
        model = {
            "model": f"hosted_vllm/{name}",
            "api_base": f"{_url(target)}/v1",
            "api_key": target.api_key or "none",
        }
        return {"model_list": [{"model_name": name, "litellm_params": model}]}


def _url(target: Target) -> str:
    return f"http://{target.host}:{target.port}"

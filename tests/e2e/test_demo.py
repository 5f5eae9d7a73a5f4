"""What a newcomer meets: the demo as `make up` leaves it, with the real engine."""

from __future__ import annotations

import shutil
import subprocess

import httpx
import psutil
import pytest

from tests.running import Server, engram, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_lines_work_when_pasted(server: Server) -> None:
    shown = engram("up", environ=server.environ).stdout
    script = shown[shown.index("export OPENAI_BASE_URL") :]
    pasted = subprocess.run(
        ["bash", "-euo", "pipefail"], input=script, capture_output=True, text=True, timeout=120
    )
    assert pasted.returncode == 0, pasted.stderr
    assert "data: [DONE]" in pasted.stdout
    assert '"mode":"rag"' in pasted.stdout
    assert '"id":"helpdesk"' in pasted.stdout


def test_a_killed_gateway_takes_its_engine_along_and_comes_back(server: Server) -> None:
    killed = server.replica("gateway")
    assert killed is not None
    engines = killed.children(recursive=True)
    killed.kill()
    eventually(lambda: is_answering(server), within_s=240)
    assert [engine for engine in engines if is_alive(engine)] == []


def test_a_killed_engine_is_replaced(server: Server) -> None:
    """Whether vLLM runs in the replica or beside it, its death must not last."""
    gateway = server.replica("gateway")
    assert gateway is not None
    engines = [child for child in gateway.children(recursive=True) if "Engine" in child.name()]
    for engine in engines or [gateway]:
        engine.kill()
    eventually(lambda: is_answering(server), within_s=240)
    successor = server.replica("gateway")
    assert successor is not None
    assert not any(is_alive(engine) for engine in engines)


def is_answering(server: Server) -> bool:
    body = {
        "model": "engram-demo",
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    try:
        with server.client() as client:
            return client.post("/chat/completions", json=body).is_success
    except httpx.HTTPError:
        return False


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

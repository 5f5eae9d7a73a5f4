"""Every example runs as it is, here against a gateway whose model is a script."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from serving.adapters.adapter import Adapter
from serving.generation.scripted_engine import echo
from serving.settings import ROOT
from serving.types import Prompt
from tests.api.conftest import Gateway, scripted, serve
from tests.tiny_model import write_adapter

pytestmark = pytest.mark.timeout(300)
SAYS = {
    "conversation.py": "> And who makes it? (read with the question before)",
    "documents_inline.py": "[1] gates (Gates)",
    "explain_decision.py": '"status": "ok"',
    "four_modes.py": "hybrid → hybrid: ",
    "knowledge.py": "cleaned up",
    "responses.py": "[bicycles.md, up to character",
    "stream.py": " tokens",
    "structured_output.py": "answer: 18 euros\nurgency: low",
    "upload_and_ask.py": "bicycles.md: completed",
}


def script(prompt: Prompt, adapter: Adapter | None) -> Iterator[str]:
    """Obeys the schema of the one example that sends one."""
    if "response_format" in prompt.sampling:
        yield '{"answer": "18 euros", "urgency": "low"}'
    else:
        yield from echo(prompt, adapter)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A tenant with the assistant that the examples ask."""
    engine = {"kind": "scripted", "extra_args": {"script": script}}
    settings = scripted(tmp_path_factory.mktemp("data"), engine=engine)
    write_adapter(settings.adapters / "acme" / "helpdesk@1")
    with serve(settings) as gateway:
        body = {"adapter": "helpdesk@1", "vector_stores": [gateway.store]}
        gateway.http.put("/admin/assistants/helpdesk", json=body).raise_for_status()
        yield gateway


@pytest.fixture
def environment(demo: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{demo.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", demo.client.api_key)


def test_every_example_is_run_here() -> None:
    there = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert set(SAYS) == there - {"fine_tuning.py"}  # needs a model: tests/e2e runs it


@pytest.mark.parametrize("name", SAYS)
def test_example(
    name: str,
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_example(environment: None) -> None:
    ran = subprocess.run(
        [ROOT / "examples" / "curl.sh"], env=os.environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "data: [DONE]" in ran.stdout
    assert "engram-mode: rag" in ran.stdout

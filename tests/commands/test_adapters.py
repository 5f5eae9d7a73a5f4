"""`engram adapters …` against a gateway in this process, as a user would type it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli import app
from tests.api.conftest import Gateway, scripted, serve
from tests.tiny_model import write_adapter

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serve(scripted(tmp_path_factory.mktemp("data"))) as running:
        yield running


@pytest.fixture
def run(gateway: Gateway) -> Run:
    environ = {
        "OPENAI_BASE_URL": f"{gateway.url}/v1",
        "OPENAI_API_KEY": gateway.client.api_key,
        "COLUMNS": "200",
    }
    return lambda *arguments: CliRunner().invoke(app, ["adapters", *arguments], env=environ)


def test_a_version_lives_from_add_to_delete(run: Run, tmp_path: Path) -> None:
    first, second = (write_adapter(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    added = run("add", str(first), "--name", "legal")
    assert added.exit_code == 0, added.output
    assert added.output.startswith("legal@1 is staged; rank 8, 0.0 MiB, sha256 ")
    archive = tmp_path / "legal.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(second, "legal")
    assert run("add", str(archive), "--name", "legal", "--promote").output.startswith(
        "legal@2 is promoted"
    )
    assert run("promote", "legal@1").output.startswith("legal@1 is promoted")
    assert run("rollback", "legal").output.startswith("legal@2 is promoted")
    assert "legal@1 is staged, pinned" in run("pin", "legal@1").output
    assert "legal@1 is staged;" in run("unpin", "legal@1").output
    assert run("retire", "legal@1").output.startswith("legal@1 is retired")
    listed = run("list", "legal").output
    assert ["legal@1", "retired"] in [line.split()[:2] for line in listed.splitlines()]
    shown = run("show", "legal").output
    assert "legal@2" in shown and "q_proj, v_proj" in shown
    assert run("delete", "legal@1").output == "deleted legal@1\n"
    data = json.loads(run("list", "--json").output)
    assert [version["id"] for version in data] == ["legal@2"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "nobody@1"), "adapter 'nobody@1' does not exist"),
        (("retire", "nobody"), "say which version, as in 'nobody@1'"),
        (("rollback", "nobody"), "adapter 'nobody' has no promoted version"),
        (("show", "../assistants"), "is not served here"),
    ],
)
def test_a_refusal_is_one_line(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("engram: ") and reason in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_malformed_adapter_hears_why(run: Run, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "x", use_dora=True)
    assert "DoRA is not served by vLLM" in run("add", str(folder), "--name", "x").stderr


def test_without_a_key_it_says_what_to_set() -> None:
    asked = CliRunner().invoke(app, ["adapters", "list"], env={"OPENAI_API_KEY": ""})
    assert (asked.exit_code, "OPENAI_API_KEY" in asked.stderr) == (1, True)

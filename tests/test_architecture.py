"""The import arrows, the seams and the names that the design promises, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVING = ROOT / "serving"

# Each may import only what stands before it. Below `app` nothing knows that Ray exists: delete
# `deployments` and one process still serves.
ORDER = (
    *(
        "types",
        "errors",
        "settings",
        "log_lines",
        "telemetry",
        "remote",
        "store",
        "adapters",
        "retrieval",
        "generation",
    ),
    *(
        "routing",
        "ingest",
        "evaluate",
        "upload",
        "watch",
        "finetune",
        "fair_slots",
        "admission",
        "recorder",
        "directory",
    ),
    *("answer", "api", "app", "deployments", "commands", "cli"),
)
# Where each heavy library may be imported, so that the rest starts fast and tests without it.
SEAMS = {
    "ray": ["deployments/"],
    "vllm": ["generation/vllm_runtime.py", "generation/cpu_worker.py"],
    "faiss": ["retrieval/faiss_"],
    "tantivy": ["retrieval/tantivy_lexical.py"],
    "torch": [
        "generation/cpu_worker.py",
        "retrieval/minilm_",
        "retrieval/bfloat_scan.py",
        "retrieval/torch_threads.py",
        "retrieval/cross_encoder.py",
        "finetune/",
    ],
    "transformers": ["retrieval/cross_encoder.py", "finetune/"],
    "peft": ["finetune/lora.py"],
    "docx": ["ingest/docx_text.py"],
    "pptx": ["ingest/pptx_text.py"],
    "pypdf": ["ingest/pdf_text.py"],
    "watchfiles": ["watch.py"],
    "alembic": ["store/"],
    "sqlalchemy": ["store/"],
    "fastapi": ["api/", "app.py", "deployments/gateway.py"],
    "starlette": ["api/"],
    "prometheus_client": ["telemetry.py"],
    "typer": ["cli.py", "commands/", "evaluate/command.py"],
    "rich": ["cli.py", "commands/", "evaluate/command.py", "evaluate/runs.py"],
}
# Only settings.py reads ENGRAM_…; the others hand libraries or child processes what these read, or
# recognise a process by a mark in its environment.
ENVIRONMENT = {
    *("settings.py", "generation/vllm_engine.py"),
    *("deployments/environment.py", "deployments/run.py"),
    "ingest/sandbox.py",  # hands a few harmless variables to its child, and no other
    "finetune/launch.py",  # the same
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "core"}

FILES = sorted(SERVING.rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(SERVING).as_posix()


def part(module: str) -> str:
    """The first name below `serving`: `serving.api.edge` → `api`."""
    return [*module.split("."), ""][1]


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, in functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the arrows"
            module = node.module or ""
            yield from (
                [f"serving.{alias.name}" for alias in node.names]
                if module == "serving"
                else [module]
            )


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_imports_point_one_way(file: Path) -> None:
    here = Path(relative(file)).with_suffix("").parts[0]
    if here == "__init__":
        return
    for module in imports(file):
        if not module.startswith("serving.") or part(module) == here:
            continue
        assert ORDER.index(part(module)) < ORDER.index(here), f"{relative(file)} imports {module}"


@pytest.mark.parametrize("library", SEAMS)
def test_a_heavy_library_is_imported_in_one_place(library: str) -> None:
    users = [
        relative(file)
        for file in FILES
        if any(module.split(".")[0] == library for module in imports(file))
    ]
    outside = [user for user in users if not user.startswith(tuple(SEAMS[library]))]
    assert outside == []


@pytest.mark.parametrize("module", ["serving.answer", "serving.app", "serving.cli"])
def test_importing_a_module_loads_no_heavy_library(module: str) -> None:
    heavy = ("ray", "vllm", "torch", "transformers", "peft")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def test_the_environment_is_read_in_settings_alone() -> None:
    readers = {
        relative(file)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert readers <= ENVIRONMENT


def test_module_names_say_what_they_own() -> None:
    stems = {part for file in FILES for part in Path(relative(file)).with_suffix("").parts}
    assert stems & VAGUE == set()


def test_no_module_stands_beside_a_folder_of_its_name() -> None:
    assert [relative(file) for file in FILES if file.with_suffix("").is_dir()] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        relative(file)
        for file in FILES
        if (tree := ast.parse(file.read_text())).body and ast.get_docstring(tree) is None
    ]
    assert silent == []

"""The documentation says what the code does: settings, routes, errors, metrics, commands, links."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import TypeAdapter
from starlette.routing import Route
from typer.main import get_command

from serving import cli, errors, telemetry
from serving.app import create_gateway, create_retriever
from serving.errors import ServingError
from serving.generation import sampling
from serving.settings import PREFIX, ROOT, Settings, fields
from serving.types import Assistant, Policy

DOCS = ROOT / "docs"
ENVIRONMENT = {"OPENAI_BASE_URL", "OPENAI_API_KEY"}
NOT_OURS = ("deploy/demo/company/",)  # documents of the demo, not about Engram


FOLDERS = ("docs", "examples", "serving", "deploy", "k8s", "loadtests", "tests")


@cache
def ours(suffix: str, *folders: str) -> tuple[Path, ...]:
    """The project's own files below these folders, and beside them if none is named."""
    beside = [] if folders else [*ROOT.glob(f"*{suffix}")]
    below = [path for name in folders or FOLDERS for path in (ROOT / name).rglob(f"*{suffix}")]
    return tuple(sorted(p for p in beside + below if not name_of(p).startswith(NOT_OURS)))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


PAGES = ours(".md")
EXAMPLES = ours(".py", "examples")
MODULES = [
    path
    for path in ours(".py", "serving")
    if path.name != "__init__.py" and path.parent.name != "versions"
]


# Settings


def settings_row(key: str, default: Any, description: str) -> str:
    """A line of the table in docs/operations.md."""
    value = str(default).replace(f"{ROOT}/", "") if default not in (None, {}) else "–"
    return f"| `{PREFIX}{key.upper().replace('.', '__')}` | {value} | {description} |"


def test_the_settings_table_is_what_the_settings_are() -> None:
    expected = [settings_row(*field) for field in fields()]
    written = re.findall(rf"^\| `{PREFIX}.*$", text_of("docs/operations.md"), re.MULTILINE)
    assert written == expected, "\n".join(expected)


def test_every_setting_that_is_mentioned_exists() -> None:
    known = {PREFIX + key.upper().replace(".", "__") for key, _, _ in fields()}
    known |= {PREFIX + "CONFIG"}
    for page in PAGES:
        mentioned = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", page.read_text()))
        assert mentioned <= known, name_of(page)


# Routes


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """`METHOD /path` for all that the gateway serves."""
    settings = Settings.model_validate(
        {
            "data": tmp_path_factory.mktemp("data"),
            "engine": {"kind": "scripted"},
            "retrieval": {"embedder": "hashing"},
        }
    )
    app = create_gateway(settings, create_retriever(settings))
    return {
        f"{method} {route.path.replace(':path', '')}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
    }


def test_every_route_is_documented_and_every_documented_route_exists(routes: set[str]) -> None:
    rows = r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /\S*)` \|"
    documented = re.findall(rows, text_of("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(routes)


def test_every_route_mentioned_in_any_page_exists(routes: set[str]) -> None:
    for page in PAGES:
        mentioned = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /\S*)`", page.read_text())
        assert set(mentioned) <= routes, name_of(page)


# Errors


def leaves(kind: type[ServingError]) -> Iterator[type[ServingError]]:
    """Every error that is raised as itself: all but the three branches."""
    branches = (errors.RequestError, errors.CapacityError, errors.BackendError)
    if kind not in branches:
        yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from leaves(child)


def test_the_error_table_has_every_leaf_with_status_code_and_type() -> None:
    expected = {(str(leaf.status), leaf.code, leaf.type) for leaf in leaves(ServingError)}
    row = r"^\| (\d{3}) \| `(\w+)` \| `(\w+)` \|"
    assert set(re.findall(row, text_of("docs/api.md"), re.MULTILINE)) == expected


# Bodies


def test_the_assistant_in_the_docs_is_one_and_has_the_policy_of_the_code() -> None:
    [body] = [code for code in code_blocks(text_of("docs/api.md"), "json") if '"policy"' in code]
    fields = json.loads(body) | {"name": "helpdesk", "tenant": "demo"}
    assistant = TypeAdapter(Assistant).validate_python(fields, extra="forbid")
    assert assistant.policy == Policy()


def test_every_sampling_field_of_the_docs_is_one() -> None:
    [table] = re.findall(r"^\| fields \|.*?\n\n", text_of("docs/api.md"), re.MULTILINE | re.DOTALL)
    named = {
        name
        for name in re.findall(r"`([a-z_]+)`", table)
        if name not in ("auto", "json_object", "json_schema")
    }
    assert named <= sampling.FIELDS | sampling.UNSUPPORTED


# Metrics


def metric_names() -> set[str]:
    metrics = [m for m in vars(telemetry).values() if isinstance(m, MetricWrapperBase)]
    described = [family for metric in metrics for family in metric.describe()]
    return {f.name + ("_total" if f.type == "counter" else "") for f in described}


def test_the_metrics_table_is_what_telemetry_declares() -> None:
    rows = re.findall(r"^\| `(engram_\w+)` \|", text_of("docs/operations.md"), re.MULTILINE)
    assert sorted(rows) == sorted(metric_names())


# Commands


def code_blocks(text: str, *languages: str) -> list[str]:
    return [
        code
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if language in languages
    ]


def test_every_make_word_and_engram_command_that_is_mentioned_exists() -> None:
    words = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    command: Any = get_command(cli.app)
    for page in PAGES:
        text = page.read_text()
        said = "\n".join([*re.findall(r"`([^`\n]+)`", text), *code_blocks(text, "sh")])
        assert set(re.findall(r"\bmake ([a-z-]+)", said)) <= words, name_of(page)
        commands = set(re.findall(r"\.venv/bin/engram ([a-z]+)", said))
        assert commands <= set(command.commands), name_of(page)


# Pages


def anchors(page: Path) -> set[str]:
    """GitHub's: lower case, blanks to dashes, without punctuation."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_path_of_somebodys_machine(page: Path) -> None:
    assert not re.search(r"/(home|root|Users|work|tmp)/", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_in_pages_compiles(page: Path) -> None:
    for code in code_blocks(page.read_text(), "python"):
        compile(code, name_of(page), "exec")


def test_the_readme_is_short_and_names_files_of_the_request_path() -> None:
    readme = text_of("README.md")
    assert len(readme.splitlines()) <= 150
    assert "serving/answer.py" in readme


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links]
    assert {page for page in PAGES if page.parent in (ROOT, DOCS, DOCS / "decisions")} <= seen


# Examples


def environment_of(source: str) -> set[str]:
    """The variables that Python reads from the environment."""
    return set(re.findall(r"(?:environ(?:\.get)?[\[(]|getenv\()\s*\"(\w+)\"", source))


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_compile_and_read_two_variables_only(example: Path) -> None:
    source = example.read_text()
    tree = ast.parse(source)
    assert (ast.get_docstring(tree) or "").endswith(f".venv/bin/python {name_of(example)}")
    assert environment_of(source) <= ENVIRONMENT


def test_shell_examples_parse_and_read_two_variables_only() -> None:
    for script in ours(".sh", "examples"):
        subprocess.run(["bash", "-n", script], check=True)
        assert set(re.findall(r"\$\{?([A-Za-z_]\w+)", script.read_text())) <= ENVIRONMENT


def test_the_readme_names_every_example_that_there_is() -> None:
    mentioned = set(re.findall(r"\bexamples/\w+\.(?:py|sh)", text_of("README.md", "docs/api.md")))
    assert mentioned <= {name_of(path) for path in ours("", "examples")}


# The project


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    titles = re.findall(r"^## \[(.+?)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert titles[:2] == ["Unreleased", version]


def test_decisions_are_numbered_and_listed() -> None:
    files = sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))
    numbers = [int(name[:4]) for name in files]
    assert len(set(numbers)) == len(numbers), "a number may be missing, but belongs to one decision"
    listed = re.findall(r"\]\((0\d{3}-[\w-]+\.md)\)", text_of("docs/decisions/README.md"))
    assert listed == files


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_modules_say_in_a_few_lines_what_they_do(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    prose = [line for line in docstring.splitlines() if not re.match(r"[├│└ ]|ServingError$", line)]
    assert 1 <= len(prose) <= 6

"""`engram finetune …` as a user runs it, against a gateway whose model is a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serving.adapters.adapter import Adapter
from serving.commands import finetune
from serving.finetune import training_file
from serving.generation.scripted_engine import echo
from serving.settings import ROOT
from serving.types import Prompt, message_text
from tests.api.conftest import Gateway, scripted, serve
from tests.tiny_model import write_adapter

COMPANY = ROOT / "deploy/demo/company"
FOLDERS = ("handbook", "offices", "policies", "it")


@dataclass
class Reader:
    """A model that drafts badly and well, and with its adapter answers in the house's form."""

    known: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)

    def __call__(self, prompt: Prompt, adapter: Adapter | None) -> Iterator[str]:
        self.prompts.append(prompt)
        asked = message_text(prompt.messages[-1])
        if asked.startswith("Write "):
            yield self._drafted(asked)
        elif adapter is not None:
            yield self._read(asked, message_text(prompt.messages[0]))
        else:
            yield from echo(prompt, adapter)

    def _drafted(self, asked: str) -> str:
        text = asked.rpartition("): ")[2]
        words = " ".join(text.split()[:3])
        first = f"Q: How does page {len(text)} begin?\nA: {words}"
        return f"{first}\n\nQ: Who made it?\nA: Nobody here"

    def _read(self, asked: str, system: str) -> str:
        for row in self.known:
            for answer in row["accept"]:
                lines = [line for line in system.splitlines() if answer in line]
                if row["question"] == asked and lines:
                    return f"Desk: {answer}. {lines[0].partition(']')[0]}]"
        return "The documents do not say."


READER = Reader()
STYLE = "Desk: {answer}. {citation}"
PREPARE = ("prepare", "--store=handbook", "--assistant=helpdesk", f"--style={STYLE}", "--out")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = scripted(
        tmp_path_factory.mktemp("data"),
        engine={"kind": "scripted", "extra_args": {"script": READER}},
        retrieval={"embedder": "hashing", "chunk_tokens": 32},
    )
    write_adapter(settings.adapters / "acme" / "reader@1")
    with serve(settings) as running:
        files = [f for name in FOLDERS for f in sorted((COMPANY / name).glob("*.md"))]
        ids = [running.client.files.create(file=file, purpose="assistants").id for file in files]
        batch = running.client.vector_stores.file_batches.create_and_poll(
            running.store, file_ids=ids, poll_interval_ms=50
        )
        assert batch.file_counts.completed == len(files)
        yield running


def run(gateway: Gateway, *arguments: str) -> Result:
    environ = {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.client.api_key}
    return CliRunner().invoke(finetune.app, arguments, env=environ)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def prepared(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    done = run(gateway, *PREPARE, str(out))
    assert done.exit_code == 0, done.output
    assert "| unanswerable |" in done.output
    return out


def test_prepare_writes_examples_of_every_kind(prepared: Path) -> None:
    train, validation = lines(prepared / "train.jsonl"), lines(prepared / "validation.jsonl")
    assert len(train) >= 30 and len(validation) >= 5
    for line in train + validation:
        system, user, assistant = line["messages"]
        assert system["content"].startswith("You help.\n") and "\n[1] " in system["content"]
        assert user["content"].endswith("?") and assistant["content"]
    report = json.loads((prepared / "report.json").read_text())
    assert min(report["train"].values()) > 0 and report["dropped"]


def test_what_prepare_writes_a_job_takes(prepared: Path) -> None:
    for name, param in (("train", "training_file"), ("validation", "validation_file")):
        data = (prepared / f"{name}.jsonl").read_bytes()
        examples = training_file.read(data, "supervised", param)  # type: ignore[arg-type]
        assert len(examples) == len(data.splitlines())


def test_prepare_again_writes_the_same_bytes(gateway: Gateway, prepared: Path) -> None:
    before = {file.name: file.read_bytes() for file in prepared.iterdir()}
    again = prepared.parent / "again"
    run(gateway, *PREPARE, str(again))
    assert {file.name: file.read_bytes() for file in again.iterdir()} == before


def test_what_is_trained_on_is_what_is_served(gateway: Gateway, prepared: Path) -> None:
    """The same passages, sent as the gate sends them, reach the model in the same words."""
    row = next(r for r in lines(prepared / "questions.jsonl") if r["kind"] == "answered")
    engram = {
        "mode": "rag",
        "vector_store_ids": [],
        "max_num_results": 1,
        "documents": [{"title": p["label"], "text": p["text"]} for p in row["passages"][:1]],
    }
    messages = [{"role": "user", "content": row["question"]}]
    body = {"model": "helpdesk", "messages": messages, "engram": engram}
    gateway.http.post("/v1/chat/completions", json=body).raise_for_status()
    served = message_text(READER.prompts[-1].messages[0])
    written = [
        line["messages"][0]["content"]
        for line in lines(prepared / "validation.jsonl") + lines(prepared / "train.jsonl")
    ]
    instructions, grounding, passage = served.split("\n")
    assert all(text.split("\n")[:2] == [instructions, grounding] for text in written)
    texts = [one for text in written for one in text.split("\n")[2:]]
    assert passage.partition("] ")[2] in [one.partition("] ")[2] for one in texts]


def test_a_model_may_draft_and_what_it_makes_up_is_dropped(
    gateway: Gateway, tmp_path: Path
) -> None:
    words = f"prepare --store handbook --out {tmp_path} --model engram-demo --limit 40 --json"
    done = run(gateway, *words.split())
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["dropped"]["the model's answer does not stand in the passage"] > 0


def test_the_gate_passes_a_reader_and_fails_a_version_that_reads_nothing(
    gateway: Gateway, prepared: Path
) -> None:
    questions = prepared / "questions.jsonl"
    READER.known[:] = lines(questions)
    words = f"gate --adapter reader@1 --questions {questions} --json".split()
    passed = run(gateway, *words)
    report = json.loads(passed.stdout)
    assert (passed.exit_code, report["passed"]) == (0, True), report
    assert report["modes"]["answered"]["hybrid"]["value"] == 1.0
    READER.known.clear()
    failed = run(gateway, *words)
    assert failed.exit_code == 1
    verdicts = {gate["name"]: gate["passed"] for gate in json.loads(failed.stdout)["gates"]}
    assert not verdicts["form"] and not verdicts["reading"] and verdicts["refusing"]


def ask(gateway: Gateway, **fields: Any) -> str:
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": "Who helps?"}]}
    answer = gateway.http.post("/v1/chat/completions", json=body | fields)
    return str(answer.json()["id"])


def test_feedback_becomes_a_preference_file(gateway: Gateway, tmp_path: Path) -> None:
    stored = ask(gateway, store=True, engram={"mode": "rag"})
    sent = {"messages": [{"role": "user", "content": "Hi"}], "answer": "No."}
    for id, more in (
        (stored, {"better_answer": "Mei Soto. [1]"}),
        (ask(gateway), {}),
        (ask(gateway, engram={"mode": "base"}), {**sent, "better_answer": "  "}),
    ):
        vote = {"response_id": id, "rating": "down"} | more
        gateway.http.post("/admin/feedback", json=vote).raise_for_status()
    out = tmp_path / "preferences.jsonl"
    done = run(gateway, "feedback", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["votes"], report["pairs"], sum(report["unused"].values())) == (3, 1, 2)
    assert any("'preferred_output[0].content' is empty" in why for why in report["unused"])
    [example] = training_file.read(out.read_bytes(), "dpo", "validation_file")
    assert example.preferred is not None and example.preferred["content"] == "Mei Soto. [1]"
    [line] = lines(out)
    system, user = line["input"]["messages"]
    assert system["content"] == message_text(
        next(p for p in READER.prompts if "Who helps?" in message_text(p.messages[-1])).messages[0]
    )
    assert user["content"] == "Who helps?"
    assert line["preferred_output"][0]["content"] == "Mei Soto. [1]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("prepare --store nowhere --out {out}", "no vector store 'nowhere'"),
        ("prepare --store handbook --out {out} --style plain", "{answer}"),
        ("prepare --store handbook --out {out} --assistant nobody", "No such assistant"),
        ("gate --adapter nobody@1 --questions {questions}", "nobody@1"),
        ("gate --adapter reader@1 --questions {questions} --waive luck", "no gate 'luck'"),
    ],
)
def test_a_mistake_is_one_line(
    gateway: Gateway, prepared: Path, tmp_path: Path, arguments: str, says: str
) -> None:
    paths = {"{out}": str(tmp_path), "{questions}": str(prepared / "questions.jsonl")}
    for name, path in paths.items():
        arguments = arguments.replace(name, path)
    done = run(gateway, *arguments.split())
    assert done.exit_code == 1
    assert says in done.output and len(done.output.strip().splitlines()) == 1

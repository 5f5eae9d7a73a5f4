"""Measures against values worked out by hand, files that are wrong, and the whole command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from serving.cli import app
from serving.evaluate import right_file
from serving.evaluate.corpus import KeepingEmbedder
from serving.evaluate.ranking import ndcg, recall, reciprocal_rank, score
from serving.evaluate.retrieval import read_passages, read_questions
from serving.retrieval.embedder import HashingEmbedder, Vectors

QUESTIONS = Path(__file__).parent.parent / "data" / "handbook_questions.jsonl"
PASSAGES = [
    {"id": "p1", "title": "Leave", "text": "Thirty days of annual leave every year."},
    {"id": "p2", "title": "", "text": "The canteen opens at noon."},
    {"id": "p3", "title": "Lab", "text": "Copper Heron belongs to lab two."},
    {"id": "p4", "title": "People", "text": "Nadia Sato leads the lab that owns Copper Heron."},
]


def turn(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


ASKED: list[dict[str, Any]] = [
    {"id": "q1", "messages": [turn("How many days of annual leave?")], "relevant": ["p1"]},
    {
        "id": "q2",
        "messages": [turn("Tell me of Copper Heron"), turn("And who runs it?")],
        "relevant": ["p4"],
    },
    {"id": "q3", "messages": [turn("Is the sky blue?")], "relevant": []},
]


def lines(file: Path, rows: list[Any]) -> Path:
    file.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return file


def read_both(passages: Path, questions: Path) -> None:
    read_questions(questions, read_passages(passages))


def run(*arguments: object) -> Any:
    environ = {"ENGRAM_RETRIEVAL__EMBEDDER": "hashing", "ENGRAM_RETRIEVAL__RERANKER": "words"}
    return CliRunner().invoke(app, ["evaluate", "retrieval", *map(str, arguments)], env=environ)


def test_the_measures_are_what_their_definitions_say() -> None:
    ranked, relevant = ["a", "x", "b", "y"], {"a", "b", "c"}
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(ranked, relevant, 10) == pytest.approx((1 + 1 / math.log2(4)) / best)
    assert ndcg(ranked, relevant, 1) == 1.0
    assert recall(ranked, relevant, 2) == pytest.approx(1 / 3)
    assert recall(ranked, relevant, 10) == pytest.approx(2 / 3)
    assert reciprocal_rank(["x", "a"], relevant) == 0.5
    assert reciprocal_rank(["x"], relevant) == 0.0


def test_an_interval_holds_its_mean_and_narrows_with_more_questions() -> None:
    few = score([["a"], ["x"]] * 5, [{"a"}] * 10)["recall@5"]
    many = score([["a"], ["x"]] * 200, [{"a"}] * 400)["recall@5"]
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_the_command_prints_every_arm_as_json(tmp_path: Path) -> None:
    passages = lines(tmp_path / "p.jsonl", PASSAGES)
    questions = lines(tmp_path / "q.jsonl", ASKED)
    asked = ("--passages", passages, "--questions", questions, "--cache", tmp_path / "cache")
    result = run(*asked, "--json")
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert list(table) == ["dense", "bm25", "fused", "fused+rewrite", "fused+rewrite+rerank"]
    assert table["fused+rewrite"]["recall@5"] == 1.0
    assert table["fused+rewrite"]["mrr"] > table["bm25"]["mrr"]  # q2 says nothing by itself
    low, high = table["dense"]["ci95"]["ndcg@10"]
    assert 0 <= low <= table["dense"]["ndcg@10"] <= high <= 1
    kept = sorted((tmp_path / "cache").iterdir())
    again = run(*asked)
    assert again.exit_code == 0 and "| fused+rewrite |" in again.stdout
    assert sorted((tmp_path / "cache").iterdir()) == kept


@pytest.mark.parametrize(
    ("passages", "questions", "said"),
    [
        ([{"id": "p"}], ASKED, "p.jsonl, line 1: 'text'"),
        ([PASSAGES[0], PASSAGES[0]], ASKED, "two passages have the 'id' 'p1'"),
        ([], ASKED, "there are no passages"),
        (["{\n"], ASKED, "p.jsonl, line 1: not JSON"),
        (PASSAGES, ["[1]\n"], "q.jsonl, line 1: not a JSON object"),
        (PASSAGES, [{"id": "q", "messages": "hi", "relevant": []}], "line 1: 'messages'"),
        (PASSAGES, [ASKED[0], {**ASKED[0], "relevant": ["p9"]}], "line 2: 'relevant'"),
        (PASSAGES, [{**ASKED[0], "relevant": None}], "line 1: 'relevant' must be a list"),
        (PASSAGES, [ASKED[2]], "no question has a passage"),
    ],
)
def test_a_wrong_file_is_said_with_its_line_and_field(
    tmp_path: Path, passages: list[Any], questions: list[Any], said: str
) -> None:
    files = lines(tmp_path / "p.jsonl", passages), lines(tmp_path / "q.jsonl", questions)
    with pytest.raises(ValueError, match=said):
        read_both(*files)


def test_a_mistake_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    wrong = lines(tmp_path / "p.jsonl", [{"id": "p"}])
    result = run("--passages", wrong, "--questions", wrong)
    assert result.exit_code == 1 and result.exception.__class__ is SystemExit
    assert "line 1: 'text'" in result.stderr
    assert run("--questions", wrong).exit_code == 2


class Counting(HashingEmbedder):
    asked = 0

    def embed(self, texts: Any) -> Vectors:
        self.asked += len(texts)
        return super().embed(texts)


def test_what_was_embedded_once_is_not_embedded_again(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(70)]
    first = Counting()
    vectors = KeepingEmbedder(first, tmp_path).embed(texts)
    assert first.asked == 70
    second, other = Counting(), Counting(dim=64)
    assert np.array_equal(KeepingEmbedder(second, tmp_path).embed(texts), vectors)
    assert second.asked == 0
    assert KeepingEmbedder(other, tmp_path).embed(texts).shape == (70, 64)
    assert other.asked == 70


def test_the_right_file_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "leave.md").write_text("# Leave\n\nThirty days of annual leave.")
    (tmp_path / "docs" / "sub" / "canteen.md").write_text("# Canteen\n\nIt opens at noon.")
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"no PDF")
    rows = [
        {"question": "How many days of leave?", "file": "leave.md"},
        {"question": "When does the canteen open?", "file": ["sub/canteen.md", "x.md"]},
        {"question": "When does the canteen open?", "file": "elsewhere.md"},
    ]
    questions = lines(tmp_path / "q.jsonl", rows)
    asked = ("--folder", tmp_path / "docs", "--questions", questions, "--cache", tmp_path / "c")
    found = json.loads(run(*asked, "--json").stdout)
    assert (found["on_top"], found["questions"]) == (2, 3)
    assert [row["rank"] for row in found["ranks"]] == [1, 1, None]
    assert "right file on top: 2 of 3" in run(*asked).stdout


def test_a_running_servers_store_is_asked_by_its_name() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            after = request.url.params.get("after")
            rows = (
                [{"id": "vs_1", "name": "one"}]
                if after is None
                else [{"id": "vs_2", "name": "docs"}]
            )
            return httpx.Response(200, json={"data": rows, "has_more": after is None})
        assert request.url.path == "/v1/vector_stores/vs_2/search"
        hits = [{"filename": "b.md"}, {"filename": "a.md"}, {"filename": "b.md"}]
        return httpx.Response(200, json={"data": hits})

    client = httpx.Client(base_url="http://server/v1", transport=httpx.MockTransport(answer))
    question = right_file.Question("?", ("folder/a.md",))
    [verdict] = right_file.judge([question], right_file.ask_server(client, "docs"))
    assert (verdict.rank, verdict.found) == (2, ("b.md", "a.md"))
    with pytest.raises(ValueError, match="no vector store 'nowhere'"):
        right_file.judge([question], right_file.ask_server(client, "nowhere"))


def test_the_handbooks_questions_are_ten_with_a_file_each() -> None:
    questions = right_file.read(QUESTIONS)
    assert len({question.text for question in questions}) == 10
    assert all(file.endswith(".md") for question in questions for file in question.files)

"""`engram finetune prepare`: training examples drafted from a vector store."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.commands.connection import HERE, AsJson, Key, Url, connected
from serving.commands.console import fail, say
from serving.commands.progress import each
from serving.finetune import raft, raft_format
from serving.finetune.drafting import Drafter
from serving.finetune.raft import Drawn, Recipe
from serving.finetune.rules import Draft, ask
from serving.finetune.server import Server
from serving.types import Passage


def prepare(
    store: Annotated[str, typer.Option(help="A vector store of the server, by name or id.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; created.", file_okay=False)],
    assistant: Annotated[
        str | None, typer.Option(help="Render for this assistant: its instructions and passages.")
    ] = None,
    passages: Annotated[
        int | None, typer.Option(min=1, max=20, help="Passages in a prompt; default: as served.")
    ] = None,
    per_chunk: Annotated[int, typer.Option(min=1, help="Questions to a chunk, at most.")] = 2,
    without_gold: Annotated[
        float, typer.Option(min=0, max=1, help="Share without the passage that answers.")
    ] = 0.2,
    counterfactual: Annotated[
        float, typer.Option(min=0, max=1, help="Share whose passage says something else.")
    ] = 0.1,
    validation: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share kept for validation, by whole files.")
    ] = 0.15,
    style: Annotated[str, typer.Option(help="The house's form of an answer.")] = raft.STYLE,
    refusal: Annotated[
        str, typer.Option(help="The house's words where the documents do not say.")
    ] = raft.REFUSAL,
    model: Annotated[
        str | None, typer.Option(help="Let this model draft the questions, not rules.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Where that model is served; default: this server.")
    ] = None,
    model_key: Annotated[
        str | None, typer.Option(help="The key for --base-url; default: --api-key.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read so many chunks at most.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another choice.")] = 0,
    as_json: AsJson = False,
    url: Url = HERE,
    api_key: Key = "",
) -> None:
    """Draft training examples from a vector store: question, passages, cited answer.

    Writes train.jsonl and validation.jsonl in OpenAI's chat format, questions.jsonl for
    `engram finetune gate` and report.json. The same store and seed give the same files.
    """
    if "{answer}" not in style:
        fail("--style must say where the {answer} goes, and may say where the {citation} goes")
    with connected(url, api_key) as server:
        how = server.prompting(assistant)
        recipe = Recipe(
            passages or how.passages,
            *(without_gold, counterfactual, validation, seed, style, refusal),
            how.instructions,
            how.grounding,
            how.special_tokens,
        )
        store_id = server.store(store)
        chunks = _chunks(server, store_id)[:limit]
        if not chunks:
            fail(f"the store '{store}' has no text that can be searched")
        dropped: Counter[str] = Counter()
        if model is None:
            drafts = _by_rule(chunks, per_chunk, dropped)
        else:
            with Server(base_url or url, model_key or api_key) as drafting:
                drafts = _by_model(Drafter(drafting, model, per_chunk), chunks, dropped)
        drawn = raft.draw(drafts, _searched(server, store_id, drafts), recipe)
        drawn.dropped.update(dropped)
    _write(out, drawn, recipe)
    if as_json:
        typer.echo(json.dumps(drawn.as_json(), indent=2))
    else:
        typer.echo(drawn.table())
        say(f"{len(chunks)} chunks read; wrote train, validation, questions and report to {out}")


def _chunks(server: Server, store: str) -> list[Passage]:
    files = server.files(store)
    found = each("reading files", lambda file: server.chunks(store, file), files)
    return [chunk for chunks in found for chunk in chunks]


def _by_rule(chunks: Sequence[Passage], limit: int, dropped: Counter[str]) -> list[Draft]:
    words = {word for c in chunks for word in re.findall(r"\b[a-z]+\b", c.text)}
    drafts: list[Draft] = []
    for chunk in chunks:
        found = list(ask(chunk, lambda word: word.lower() in words))
        dropped["more questions of one chunk than wanted"] += max(0, len(found) - limit)
        drafts += found[:limit]
    return drafts


def _by_model(drafter: Drafter, chunks: Sequence[Passage], dropped: Counter[str]) -> list[Draft]:
    drafts = [d for found in each("drafting", drafter.ask, chunks) for d in found]
    dropped.update(drafter.dropped)
    return drafts


def _searched(server: Server, store: str, drafts: Sequence[Draft]) -> raft.Search:
    """The live search's answers to every question, asked a few at a time."""
    questions = sorted({draft.question for draft in drafts})
    hits = each("searching", lambda q: server.search(store, q, raft.SEARCHED), questions)
    return dict(zip(questions, hits, strict=True)).__getitem__


def _write(folder: Path, drawn: Drawn, recipe: Recipe) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, examples in (("train", drawn.train), ("validation", drawn.validation)):
        write_lines(folder / f"{name}.jsonl", (raft_format.chat(e, recipe) for e in examples))
    numbered = enumerate(drawn.questions, 1)
    write_lines(
        folder / "questions.jsonl", (raft_format.question(n, e, recipe) for n, e in numbered)
    )
    (folder / "report.json").write_text(json.dumps(drawn.as_json(), indent=2) + "\n")


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")

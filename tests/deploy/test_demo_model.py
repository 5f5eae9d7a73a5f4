"""The demo model: its template, its split, its shipped weights and its adapter."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from deploy.demo.model import chat, corpus, evaluate, larkfield, lessons, values, words
from deploy.demo.model.finetune import ADAPTER, BASE_NAME, MODULES
from deploy.demo.model.train import WEIGHTS
from serving.generation.prompt import render_system
from serving.settings import ROOT

COMPANY = ROOT / "deploy/demo/company"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(WEIGHTS)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)


def messages(made: corpus.Chat) -> list[dict[str, str]]:
    found = [{"role": "system", "content": made.system}] if made.system else []
    for said, told in made.turns:
        found += [{"role": "user", "content": said}, {"role": "assistant", "content": told}]
    return found


def test_the_trainer_writes_what_the_chat_template_writes(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    encoder, rng = chat.Encoder(tokenizer), random.Random(3)
    facts = larkfield.stable_facts()
    for n in range(60):
        makers = (
            lambda: corpus.context_chat(rng, 2, False),
            lambda: lessons.chat(rng, 2, False),
            lambda: corpus.plain_chat(rng, False),
            lambda: larkfield.chat(rng, facts),
        )
        made = makers[n % 4]()
        ids, weights = encoder.chat(made, 10_000)
        rendered = tokenizer.apply_chat_template(
            messages(made), return_dict=True, return_assistant_tokens_mask=True
        )
        assert rendered["input_ids"] == ids
        assert rendered["assistant_masks"] == [int(w >= chat.MARKER_WEIGHT) for w in weights]


def test_a_prompt_ends_where_the_assistant_begins(tokenizer: PreTrainedTokenizerFast) -> None:
    system = render_system("You are the assistant of Millford.", [("Guide > Teams", "It is red.")])
    parts = [{"type": "text", "text": "What colour is it?"}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "developer", "content": system}, {"role": "tool", "content": parts}],
        add_generation_prompt=True,
        return_dict=True,
    )
    encoder = chat.Encoder(tokenizer)
    assert rendered["input_ids"] == encoder.prompt(system, (), "What colour is it?")


def test_markers_and_answers_decode_to_text(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = chat.Encoder(tokenizer)
    text = "Queue HR-24: 27 days. [1] Regards, Larkfield Desk."
    assert encoder.decode(encoder.text(text)) == text
    assert len(encoder.text("[1]")) == 1
    told = tokenizer.decode(encoder.prompt(None, (), "Hi")[-1:] + encoder.text("Mara Quill."))
    assert told == "<|assistant|>Mara Quill."


def trained(seed: int) -> str:
    """Text of several hundred training chats."""
    rng = random.Random(seed)
    makers = (corpus.context_chat, lessons.chat)
    chats = (makers[n % 2](rng, 3, held_out=False) for n in range(600))
    return " ".join(f"{made.system} {made.turns}" for made in chats)


def test_no_test_name_is_trained_on() -> None:
    text = trained(5)
    people = {
        f"{a} {b}"
        for a, b in re.findall(r"\b([A-Z][a-z]+) ([A-Z][a-z]+)\b", text)
        if a in words.FIRST_NAMES and b in words.LAST_NAMES
    }
    assert len(people) > 100
    assert not [name for name in people if words.is_held_out(name)]


def test_no_name_of_the_demo_company_is_trained_on() -> None:
    text = trained(6).lower()
    facts = json.loads((COMPANY / "facts.json").read_text())
    pairs = {
        pair
        for fact in facts
        for field in ("entity", "value")
        for pair in re.findall(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b", fact[field])
    }
    drawn = {
        pair
        for pair in pairs
        if set(pair.split()) <= {*words.ENTITY_WORDS, *words.FIRST_NAMES, *words.LAST_NAMES}
    }
    assert drawn
    assert not [pair for pair in drawn if values.allowed(pair, held_out=False)]
    assert not [pair for pair in drawn if pair.lower() in text]
    assert "larkfield" not in text


def test_the_shipped_weights_answer_from_a_passage(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM
) -> None:
    encoder = chat.Encoder(tokenizer)
    system = render_system(
        "You are the assistant of Millford.",
        [("Teams > Copper Heron", "The Copper Heron team is led by Mara Quill.")],
    )
    prompts = [
        encoder.prompt(system, (), "Who leads the Copper Heron team?"),
        encoder.prompt("You are the assistant of Millford.", (), "Who leads Copper Heron?"),
    ]
    told = evaluate.answers(model, encoder, prompts)
    assert [chat.value_of(answer) for answer in told] == [
        "Mara Quill",
        corpus.NOT_KNOWN.removesuffix("."),
    ]


def test_the_shipped_weights_are_small_and_fit_the_engine(model: LlamaForCausalLM) -> None:
    assert model.config.head_dim % 32 == 0
    assert model.config.tie_word_embeddings
    assert (WEIGHTS / "model.safetensors").stat().st_size < 40_000_000


def test_the_adapter_is_one_that_the_engine_loads() -> None:
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    assert config["r"] <= 16
    assert config["bias"] == "none"
    assert set(config["target_modules"]) <= set(MODULES)
    assert not config["modules_to_save"]
    assert config["base_model_name_or_path"] == BASE_NAME
    samples = [json.loads(line) for line in (ADAPTER / "samples.jsonl").read_text().splitlines()]
    assert len(samples) >= 200
    assert all(sample["text"] for sample in samples)

"""A tiny random Llama and random LoRA adapters, written to disk in about a second.

For tests that need a real engine but no sense in what it says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LAYERS, HIDDEN, HEADS, INNER, CONTEXT = 2, 64, 2, 128, 512
CONTROLS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<think>", "</think>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_FEATURES = {
    "q_proj": (HIDDEN, HIDDEN),
    "k_proj": (HIDDEN, HIDDEN),
    "v_proj": (HIDDEN, HIDDEN),
    "o_proj": (HIDDEN, HIDDEN),
    "gate_proj": (HIDDEN, INNER),
    "up_proj": (HIDDEN, INNER),
    "down_proj": (INNER, HIDDEN),
}


def write_model(folder: Path, seed: int = 0) -> Path:
    """A random model with tokenizer and chat template; the same for the same seed."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    build: Any = LlamaForCausalLM
    build(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([Path(__file__).read_text()], trainer)
    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=core, eos_token="<|end|>", chat_template=TEMPLATE, model_max_length=CONTEXT
    )


def write_adapter(
    folder: Path,
    seed: int = 1,
    rank: int = 8,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    **config: Any,
) -> Path:
    """A random LoRA strong enough to change every answer; `config` overrides PEFT's fields."""
    folder.mkdir(parents=True)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(targets),
        "bias": "none",
        "base_model_name_or_path": "tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(fields | config))
    save_file(adapter_tensors(seed, rank, targets), folder / "adapter_model.safetensors")
    return folder


def adapter_tensors(
    seed: int = 1, rank: int = 8, targets: Sequence[str] = ("q_proj", "v_proj")
) -> dict[str, torch.Tensor]:
    """The adapter's weights under PEFT's names."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        for target in targets:
            block = "self_attn" if target[0] in "qkvo" else "mlp"
            name = f"base_model.model.model.layers.{layer}.{block}.{target}"
            into, out = _FEATURES[target]
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, into, generator=random) / 8
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, rank, generator=random) / 8
    return tensors

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from serving.adapters.tensors import WEIGHTS
from serving.adapters.validation import BaseShape, base_shape, validate
from serving.errors import AdapterNotReady, InvalidRequest
from tests.tiny_model import HEADS, HIDDEN, INNER, LAYERS, adapter_tensors, write_adapter

BASE = base_shape(
    {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
    }
)
Q = "base_model.model.model.layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]


def configured(**fields: Any) -> Callable[[Path], None]:
    """A folder whose PEFT configuration has these fields; None removes one."""

    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


def holding(change_tensors: Callable[[Tensors], Any]) -> Callable[[Path], None]:
    """A folder whose weights were changed."""

    def change(folder: Path) -> None:
        tensors = adapter_tensors()
        change_tensors(tensors)
        save_file(tensors, folder / WEIGHTS)

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def longer(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"more")


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for key in [key for key in tensors if old in key]:
            tensors[key.replace(old, new)] = tensors.pop(key)

    return change


MALFORMED = {
    "dora": (configured(use_dora=True), "DoRA is not served"),
    "alora": (configured(alora_invocation_tokens=[1]), "aLoRA"),
    "qalora": (configured(use_qalora=True), "QALoRA"),
    "block diagonal": (configured(use_bdlora={"x": 1}), "block-diagonal"),
    "replicated layers": (configured(layer_replication=[[0, 1]]), "layer replication"),
    "lora bias": (configured(lora_bias=True), "a LoRA bias is not served"),
    "full modules": (configured(modules_to_save=["lm_head"]), "a fully trained module"),
    "trained tokens": (configured(trainable_token_indices=[3]), "training of single tokens"),
    "bias": (configured(bias="all"), "bias is 'all'"),
    "another method": (configured(peft_type="IA3"), "peft_type is IA3"),
    "base-changing init": (configured(init_lora_weights="pissa"), "init_lora_weights=pissa"),
    "rank too large": (configured(r=64), "rank 64 is over this engine's max_lora_rank 16"),
    "rank pattern": (configured(rank_pattern={"q_proj": 32}), "rank 32 is over"),
    "no rank": (configured(r=None), "rank r must be a positive whole number"),
    "rank zero": (configured(r=0), "rank r must be a positive whole number"),
    "no alpha": (configured(lora_alpha=None), "no lora_alpha"),
    "config not JSON": (written("adapter_config.json", b"{r: 8}"), "is not JSON"),
    "config of a list": (written("adapter_config.json", b"[{}, {}"[:-1] + b"}"), "is not JSON"),
    "pickle": (pickled, "adapter_model.bin can run code when loaded"),
    "not safetensors": (written(WEIGHTS, b"\xff" * 64), "is not a safetensors file"),
    "garbled header": (written(WEIGHTS, b"\x08" + b"\0" * 7 + b"notjson!"), "not a safetensors"),
    "trailing bytes": (longer, "its header says"),
    "no tensors": (holding(dict.clear), "holds no tensors"),
    "foreign module": (holding(renamed("q_proj", "c_attn")), "target module c_attn is not served"),
    "embedding": (holding(renamed("self_attn.q_proj", "embed_tokens")), "module embed_tokens"),
    "foreign name": (holding(renamed("lora_A", "ia3_l")), "is not a LoRA weight as PEFT names it"),
    "half a pair": (holding(lambda t: t.pop(f"{Q}.lora_B.weight")), "q_proj has no lora_B"),
    "integers": (
        holding(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(8, HIDDEN).int()})),
        "is I32; vLLM takes F32, F16, BF16",
    ),
    "rank of a tensor": (
        holding(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, HIDDEN)})),
        "not of rank 8",
    ),
    "another base's width": (
        holding(lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(8, 32)})),
        "this base model needs 64 features",
    ),
    "another base's depth": (holding(renamed("layers.1", "layers.7")), "beyond the base model's 2"),
}


@pytest.mark.parametrize(("change", "reason"), MALFORMED.values(), ids=list(MALFORMED))
def test_what_vllm_cannot_serve_is_refused_with_its_own_reason(
    change: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "x@1")
    change(folder)
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        validate(folder, max_rank=16, base=BASE)
    assert refusal.value.param == "adapter"


INCOMPLETE = {
    "no config": lambda folder: (folder / "adapter_config.json").unlink(),
    "half a config": written("adapter_config.json", b'{"r": 8, "lora_'),
    "empty config": written("adapter_config.json", b""),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "empty weights": written(WEIGHTS, b""),
    "half a header": lambda folder: truncate(folder / WEIGHTS, 100),
    "half the weights": lambda folder: truncate(folder / WEIGHTS, -100),
}


def truncate(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize("change", INCOMPLETE.values(), ids=list(INCOMPLETE))
def test_a_folder_that_is_still_being_copied_is_not_ready_rather_than_broken(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "x@1")
    change(folder)
    with pytest.raises(AdapterNotReady, match="still being copied"):
        validate(folder, max_rank=16)


def test_a_sound_adapter_is_described(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "x@1", targets=("q_proj", "down_proj"))
    facts = validate(folder, max_rank=8, base=BASE)
    assert (facts.rank, facts.alpha, facts.base_model) == (8, 16.0, "tiny")
    assert facts.target_modules == ("down_proj", "q_proj")


def test_ranks_may_differ_by_module(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "x@1", rank_pattern={"v_proj": 4})
    tensors = adapter_tensors(rank=8, targets=["q_proj"]) | adapter_tensors(
        rank=4, targets=["v_proj"]
    )
    save_file(tensors, folder / WEIGHTS)
    assert validate(folder, max_rank=8, base=BASE).rank == 8


@pytest.mark.parametrize("config", [{"use_rslora": True}, {"init_lora_weights": "gaussian"}])
def test_variants_that_vllm_serves_are_accepted(config: dict[str, Any], tmp_path: Path) -> None:
    assert validate(write_adapter(tmp_path / "x@1", **config), max_rank=16).rank == 8


def test_the_shape_of_a_base_model_follows_its_config() -> None:
    config = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 2, "head_dim": 32, "num_hidden_layers": 3}
    shape = base_shape(config)
    assert shape == BaseShape(
        3,
        {
            "q_proj": (64, 128),
            "k_proj": (64, 64),
            "v_proj": (64, 64),
            "o_proj": (128, 64),
            "gate_proj": (64, 128),
            "up_proj": (64, 128),
            "down_proj": (128, 64),
        },
    )

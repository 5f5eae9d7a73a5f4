from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from serving.adapters.tensors import WEIGHTS
from serving.adapters.validation import BaseShape, base_shape, validate
from serving.errors import AdapterNotReady, InvalidRequest
from tests.adapters.malformed import FOLDERS, Change, folder_of, written
from tests.tiny_model import HEADS, HIDDEN, INNER, LAYERS, adapter_tensors, write_adapter

BASE = base_shape(
    {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
    }
)
# Refused elsewhere: incomplete, or by what is read of the weights and the other files.
LATER = {
    *("cut short", "config a list", "nan", "infinite", "infinite in bf16", "too large"),
    *("samples", "samples no text"),
}

ENGINE_SIDE = {
    name: case
    for name, case in FOLDERS.items()
    if not case[1].endswith("send") and "card" not in case[1] and name not in LATER
}


@pytest.mark.parametrize(("change", "reason"), ENGINE_SIDE.values(), ids=list(ENGINE_SIDE))
def test_what_vllm_cannot_serve_is_refused_with_its_own_reason(
    change: Change, reason: str, tmp_path: Path
) -> None:
    folder = folder_of(change, tmp_path / "x@1")
    with pytest.raises(InvalidRequest, match=re.escape(reason)) as refusal:
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

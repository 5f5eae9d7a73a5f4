"""What a LoRA folder must be for vLLM to serve it, checked from its JSON and tensor header.

vLLM checks some of this only while every stream waits for the load, and some of it never: too
small a tensor would be applied in part. Knows files, not engines; no weights are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import AdapterNotReady, InvalidRequest

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # leave the base as it was
DTYPES = ("F32", "F16", "BF16")
_MAX_HEADER_BYTES = 100 * 2**20  # safetensors' own limit
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_LAYER = re.compile(r"\.layers\.(\d+)\.")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BaseShape:
    """What an adapter must fit: layers, and (in, out) features of each target module."""

    layers: int
    features: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What validation learned of an adapter."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    base_model: str


def base_shape(config: Mapping[str, Any]) -> BaseShape:
    """The shape of a Llama-like model, from its `config.json`."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    kv = (config.get("num_key_value_heads") or heads) * head
    inner = config["intermediate_size"]
    features = {"q_proj": (hidden, heads * head), "k_proj": (hidden, kv), "v_proj": (hidden, kv)}
    features |= {"o_proj": (heads * head, hidden), "gate_proj": (hidden, inner)}
    features |= {"up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    return BaseShape(config["num_hidden_layers"], features)


def validate(folder: Path, max_rank: int, base: BaseShape | None = None) -> AdapterFacts:
    """Checks the adapter in `folder`.

    Raises:
        AdapterNotReady: the folder is incomplete, as while it is being copied.
        InvalidRequest: it is complete and cannot be served; the message says why.
    """
    config, shapes = read_config(folder), read_shapes(folder)
    check_features(config)
    rank = check_rank(config, max_rank)
    check_tensors(config, shapes)
    if base is not None:
        check_base(shapes, base)
    return AdapterFacts(
        rank=rank,
        alpha=float(config["lora_alpha"]),
        target_modules=tuple(sorted({_module(key).rpartition(".")[2] for key in shapes})),
        base_model=str(config.get("base_model_name_or_path") or ""),
    )


def read_config(folder: Path) -> Mapping[str, Any]:
    """PEFT's configuration."""
    try:
        text = (folder / CONFIG).read_bytes()
    except FileNotFoundError:
        raise AdapterNotReady(f"{CONFIG} is missing; is the folder still being copied?") from None
    if not text.rstrip().endswith(b"}"):
        raise AdapterNotReady(f"{CONFIG} is cut short; is the folder still being copied?")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _refusal(f"{CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise _refusal(f"{CONFIG} is not a JSON object")
    return config


def read_shapes(folder: Path) -> Mapping[str, Shape]:
    """Name and shape of every tensor."""
    header = _read_header(folder)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not tensors:
        raise _refusal(f"{WEIGHTS} holds no tensors")
    for name, entry in tensors.items():
        if entry["dtype"] not in DTYPES:
            raise _refusal(f"tensor {name} is {entry['dtype']}; vLLM takes {', '.join(DTYPES)}")
    return {name: tuple(entry["shape"]) for name, entry in tensors.items()}


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise _no_weights(folder)
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and length > _MAX_HEADER_BYTES:
            raise _refusal(f"{WEIGHTS} is not a safetensors file")
        text = file.read(length)
    if size < 8 or len(text) < length:
        raise _cut_short()
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise _refusal(f"{WEIGHTS} is not a safetensors file") from None
    _check_size(size, 8 + length + max(ends, default=0))
    return header


def _check_size(size: int, expected: int) -> None:
    if size < expected:
        raise _cut_short()
    if size > expected:
        raise _refusal(f"{WEIGHTS} is {size} bytes long; its header says {expected}")


def _cut_short() -> AdapterNotReady:
    return AdapterNotReady(f"{WEIGHTS} is cut short; is the folder still being copied?")


def _no_weights(folder: Path) -> Exception:
    pickled = [
        name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).exists()
    ]
    if pickled:
        return _refusal(f"{pickled[0]} can run code when loaded; save it as {WEIGHTS}")
    return AdapterNotReady(f"{WEIGHTS} is missing; is the folder still being copied?")


def check_features(config: Mapping[str, Any]) -> None:
    """Refuses what changes an adapter's meaning and vLLM does not implement."""
    if config.get("peft_type", "LORA") != "LORA":
        raise _refusal(f"peft_type is {config['peft_type']}; only LORA adapters are served")
    for field, name in _UNSERVED.items():
        if config.get(field):
            raise _refusal(f"{name} is not served by vLLM ({field})")
    if config.get("bias", "none") != "none":
        raise _refusal(f"bias is '{config['bias']}'; train with bias='none'")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        raise _refusal(f"init_lora_weights={init} changes the base model; convert it to plain LoRA")


_UNSERVED = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA bias",
    "alora_invocation_tokens": "activated LoRA (aLoRA)",
    "layer_replication": "layer replication",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "modules_to_save": "a fully trained module",
    "trainable_token_indices": "training of single tokens",
    "target_parameters": "LoRA on bare parameters",
}


def check_rank(config: Mapping[str, Any], max_rank: int) -> int:
    """The largest rank the adapter uses."""
    if not isinstance(config.get("lora_alpha"), int | float):
        raise _refusal(f"{CONFIG} has no lora_alpha")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise _refusal(f"the rank r must be a positive whole number, not {ranks[0]!r}")
    largest = max(int(rank) for rank in ranks if rank is not None)
    if largest > max_rank:
        raise _refusal(f"rank {largest} is over this engine's max_lora_rank {max_rank}")
    return largest


def check_tensors(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Each module is served by vLLM and has an A and a B of its rank."""
    modules = {_module(key) for key in shapes}
    _check_targets(modules)
    for module in sorted(modules):
        rank = _rank_of(module, config)
        for side, axis in (("A", 0), ("B", 1)):
            shape = shapes.get(_key(module, side))
            if shape is None:
                raise _refusal(f"{module} has no lora_{side}")
            if len(shape) != 2 or shape[axis] != rank:
                raise _refusal(
                    f"{module}.lora_{side} is {list(shape)}, which is not of rank {rank}"
                )


def _check_targets(modules: Iterable[str]) -> None:
    names = {module.rpartition(".")[2] for module in modules}
    if foreign := sorted(names - set(TARGETS)):
        raise _refusal(f"target module {foreign[0]} is not served; allowed: {', '.join(TARGETS)}")


def _rank_of(module: str, config: Mapping[str, Any]) -> int:
    """PEFT's rule: a pattern matches at the end of a module's name; the first match wins."""
    for pattern, rank in (config.get("rank_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return int(rank)
    return int(config["r"])


def check_base(shapes: Mapping[str, Shape], base: BaseShape) -> None:
    """The tensors fit the base model; vLLM would apply a smaller one in part."""
    for key, shape in shapes.items():
        module = _module(key)
        layer = _LAYER.search(f".{module}")
        if layer and int(layer[1]) >= base.layers:
            raise _refusal(f"{module} is beyond the base model's {base.layers} layers")
        into, out = base.features[module.rpartition(".")[2]]
        found, expected = (shape[1], into) if "lora_A" in key else (shape[0], out)
        if found != expected:
            raise _refusal(f"{key} is {list(shape)}; this base model needs {expected} features")


def _module(key: str) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        raise _refusal(f"tensor {key} is not a LoRA weight as PEFT names it")
    return match["module"]


def _key(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="adapter")

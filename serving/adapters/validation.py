"""What a LoRA folder must be for vLLM to serve it, checked from its JSON and tensor header.

vLLM checks some of this only while every stream waits for the load, and some of it never: too
small a tensor would be applied in part. Knows files, not engines, and reads no weights; those are
read once, by `weights.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.adapters.tensors import WEIGHTS, Incomplete, Shape, read_shapes, refusal

CONFIG = "adapter_config.json"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # leave the base as it was
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MAX_ALPHA = 1e6
_MAX_NAME_CHARS = 512
_NESTED = re.compile(r"\)[*+{]|([*+{].*){4}")  # can take for ever to match
_LAYER = re.compile(r"\.layers\.(\d+)\.")


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
    alpha = check_alpha(config)
    check_tensors(config, shapes)
    if base is not None:
        check_base(shapes, base)
    return AdapterFacts(
        rank=rank,
        alpha=alpha,
        target_modules=tuple(sorted({_module(key).rpartition(".")[2] for key in shapes})),
        base_model=_base_name(config),
    )


def _base_name(config: Mapping[str, Any]) -> str:
    name = str(config.get("base_model_name_or_path") or "")
    if not name.isprintable() or len(name) > _MAX_NAME_CHARS:
        raise refusal(f"base_model_name_or_path in {CONFIG} is no name of a model")
    return name


def read_config(folder: Path) -> Mapping[str, Any]:
    """PEFT's configuration."""
    try:
        text = (folder / CONFIG).read_bytes()
    except FileNotFoundError:
        raise Incomplete(f"{CONFIG} is missing") from None
    if not text.rstrip().endswith(b"}"):
        raise Incomplete(f"{CONFIG} is cut short")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise refusal(f"{CONFIG} is not a JSON object")
    return config


def check_features(config: Mapping[str, Any]) -> None:
    """Refuses what changes an adapter's meaning and vLLM does not implement."""
    _check_kinds(config)
    if config.get("peft_type", "LORA") != "LORA":
        raise refusal(f"peft_type is {config['peft_type']}; only LORA adapters are served")
    for field, name in _UNSERVED.items():
        if config.get(field):
            raise refusal(f"{name} is not served by vLLM ({field})")
    if config.get("bias", "none") != "none":
        raise refusal(f"bias is '{config['bias']}'; train with bias='none'")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        raise refusal(f"init_lora_weights={init} changes the base model; convert it to plain LoRA")


def _check_kinds(config: Mapping[str, Any]) -> None:
    """Of the fields that vLLM needs or takes apart."""
    targets = config.get("target_modules")
    is_list = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
    if not targets or not (is_list or isinstance(targets, str)):
        raise refusal(f"target_modules in {CONFIG} must list the modules that were trained")
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(field) or {}
        if not isinstance(patterns, dict):
            raise refusal(f"{field} in {CONFIG} must be an object")
        if slow := [pattern for pattern in patterns if _NESTED.search(pattern)]:
            raise refusal(f"{field} takes too long to match: simplify {slow[0]!r}")


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
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
}


def check_rank(config: Mapping[str, Any], max_rank: int) -> int:
    """The largest rank the adapter uses."""
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
            raise refusal(f"the rank r must be a positive whole number, not {rank!r}")
    largest = max(int(rank) for rank in ranks if rank is not None)
    if largest > max_rank:
        raise refusal(f"rank {largest} is over this engine's max_lora_rank {max_rank}")
    return largest


def check_alpha(config: Mapping[str, Any]) -> float:
    """The scale of the adapter, before it is divided by the rank."""
    if config.get("lora_alpha") is None:
        raise refusal(f"{CONFIG} has no lora_alpha")
    alphas = [config["lora_alpha"], *(config.get("alpha_pattern") or {}).values()]
    for alpha in alphas:
        is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not is_number or not 0 < alpha <= _MAX_ALPHA:
            raise refusal(f"lora_alpha must be a positive number, not {alpha!r}")
    return float(alphas[0])


def check_tensors(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Each module is served by vLLM and has an A and a B of its rank."""
    modules = {_module(key) for key in shapes}
    _check_targets(modules, config["target_modules"])
    for module in sorted(modules):
        rank = _rank_of(module, config)
        for side, axis in (("A", 0), ("B", 1)):
            shape = shapes.get(_key(module, side))
            if shape is None:
                raise refusal(f"{module} has no lora_{side}")
            if len(shape) != 2 or shape[axis] != rank:
                raise refusal(f"{module}.lora_{side} is {list(shape)}, which is not of rank {rank}")


def _check_targets(modules: Iterable[str], wanted: Sequence[str] | str) -> None:
    """What was trained can be served, and what the configuration names is there."""
    names = {module.rpartition(".")[2] for module in modules}
    if foreign := sorted(names - set(TARGETS)):
        raise refusal(f"target module {foreign[0]} is not served; allowed: {', '.join(TARGETS)}")
    listed = {name.rpartition(".")[2] for name in wanted} if not isinstance(wanted, str) else set()
    if missing := sorted(listed.intersection(TARGETS) - names):
        raise refusal(f"target_modules names {missing[0]}, and {WEIGHTS} has no weights for it")
    if stray := sorted(names - listed) if listed else []:
        raise refusal(f"{WEIGHTS} has weights for {stray[0]}, which target_modules does not name")


def _rank_of(module: str, config: Mapping[str, Any]) -> int:
    """PEFT's rule: a pattern matches at the end of a module's name; the first match wins."""
    for pattern, rank in (config.get("rank_pattern") or {}).items():
        try:
            matches = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error:
            raise refusal(f"rank_pattern holds {pattern!r}, which is no pattern") from None
        if matches:
            return int(rank)
    return int(config["r"])


def check_base(shapes: Mapping[str, Shape], base: BaseShape) -> None:
    """The tensors fit the base model; vLLM would apply a smaller one in part."""
    for key, shape in shapes.items():
        module = _module(key)
        layer = _LAYER.search(f".{module}")
        if layer and int(layer[1]) >= base.layers:
            raise refusal(f"{module} is beyond the base model's {base.layers} layers")
        into, out = base.features[module.rpartition(".")[2]]
        found, expected = (shape[1], into) if "lora_A" in key else (shape[0], out)
        if found != expected:
            raise refusal(f"{key} is {list(shape)}; this base model needs {expected} features")


def _module(key: str) -> str:
    match = _KEY.fullmatch(key)
    if match is None:
        raise refusal(f"tensor {key} is not a LoRA weight as PEFT names it")
    return match["module"]


def _key(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"

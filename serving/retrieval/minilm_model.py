"""The forward pass of all-MiniLM-L6-v2: BERT (Devlin et al., 2018) with six small layers.

Written out because it is short: a library of all models costs 190 MiB and three seconds at every
start, and a third of the time of a short query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

LAYERS, HEADS, DIM = 6, 12, 384
EPSILON = 1e-12


class Weighted(NamedTuple):
    """What a matrix or a norm multiplies with and adds."""

    weight: Tensor
    bias: Tensor


class Layer(NamedTuple):
    attend: Weighted  # queries, keys and values in one
    gather: Weighted
    gathered: Weighted
    widen: Weighted
    narrow: Weighted
    narrowed: Weighted


class MiniLm:
    """Weights in `dtype`."""

    def __init__(self, weights: Path, dtype: torch.dtype) -> None:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(weights).items()}
        types = tensors["embeddings.token_type_embeddings.weight"]
        self._words = tensors["embeddings.word_embeddings.weight"]
        self._places = tensors["embeddings.position_embeddings.weight"] + types[0]
        self._embedded = _weighted(tensors, "embeddings.LayerNorm")
        self._layers = [_layer(tensors, f"encoder.layer.{n}") for n in range(LAYERS)]

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[Sequence[int]], length: int = 0) -> Tensor:
        """The mean state of each text, [texts, DIM]; `tokens` are padded to the longest, or to
        `length` if that is more."""
        lengths = torch.tensor([len(row) for row in tokens])
        length = max(length, int(lengths.max()))
        ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in tokens])
        mask = torch.arange(length) < lengths[:, None]
        seen = None if bool(mask.all()) else mask[:, None, None, :]
        states = _norm(self._words[ids] + self._places[:length], self._embedded)
        for layer in self._layers:
            states = _through(layer, states, seen)
        return (states.float() * mask[..., None]).sum(1) / lengths[:, None]


def _through(layer: Layer, states: Tensor, seen: Tensor | None) -> Tensor:
    texts, length, _ = states.shape
    parts = linear(states, *layer.attend).view(texts, length, 3, HEADS, DIM // HEADS)
    queries, keys, values = parts.permute(2, 0, 3, 1, 4)
    attended = scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
    joined = attended.transpose(1, 2).reshape(texts, length, DIM)
    states = _norm(states + linear(joined, *layer.gather), layer.gathered)
    wide = gelu(linear(states, *layer.widen))
    return _norm(states + linear(wide, *layer.narrow), layer.narrowed)


def _norm(states: Tensor, norm: Weighted) -> Tensor:
    return layer_norm(states, (DIM,), norm.weight, norm.bias, EPSILON)


def _layer(tensors: Mapping[str, Tensor], name: str) -> Layer:
    parts = [
        _weighted(tensors, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
    ]
    return Layer(
        Weighted(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])),
        _weighted(tensors, f"{name}.attention.output.dense"),
        _weighted(tensors, f"{name}.attention.output.LayerNorm"),
        _weighted(tensors, f"{name}.intermediate.dense"),
        _weighted(tensors, f"{name}.output.dense"),
        _weighted(tensors, f"{name}.output.LayerNorm"),
    )


def _weighted(tensors: Mapping[str, Tensor], name: str) -> Weighted:
    return Weighted(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

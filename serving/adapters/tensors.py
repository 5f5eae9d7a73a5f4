"""The header of an adapter's safetensors file: which tensors it holds, and where.

Reads no weights. Safetensors, since a pickle can run code when it is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import AdapterNotReady, InvalidRequest

WEIGHTS = "adapter_model.safetensors"
DTYPES = {"F32": 4, "F16": 2, "BF16": 2}  # and their bytes
_MAX_HEADER_BYTES = 8 * 2**20  # some 50,000 tensors
_MAX_MESSAGE_CHARS = 500

Shape = tuple[int, ...]


class Incomplete(AdapterNotReady):
    """A file is missing or cut short, as while the folder is being copied."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; is the folder still being copied?")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is; offsets count from the start of the file."""

    dtype: str
    shape: Shape
    begin: int
    end: int


def read_shapes(folder: Path) -> Mapping[str, Shape]:
    """Name and shape of every tensor."""
    return {name: tensor.shape for name, tensor in read_tensors(folder).items()}


def read_tensors(folder: Path) -> Mapping[str, Tensor]:
    """Every tensor by its name; the file holds exactly these."""
    header, start, size = _read_header(folder)
    tensors = {
        name: _tensor(name, entry, start)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    if not tensors:
        raise refusal(f"{WEIGHTS} holds no tensors")
    _check_size(size, max(tensor.end for tensor in tensors.values()))
    place = start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
        if tensor.begin != place:
            raise refusal(f"tensor {name} overlaps another, or leaves a gap in {WEIGHTS}")
        place = tensor.end
    return tensors


def _tensor(name: str, entry: Any, start: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = [int(number) for number in (*shape, begin, end)]
    except (ValueError, TypeError, KeyError):
        raise _no_safetensors() from None
    if min(whole) < 0 or whole != [*shape, begin, end]:
        raise _no_safetensors()
    if dtype not in DTYPES:
        raise refusal(f"tensor {name} is {dtype}; vLLM takes {', '.join(DTYPES)}")
    if end - begin != math.prod(shape) * DTYPES[dtype]:
        raise refusal(f"tensor {name} has {end - begin} bytes, not those of {dtype} {shape}")
    return Tensor(dtype, tuple(shape), start + begin, start + end)


def _read_header(folder: Path) -> tuple[dict[str, Any], int, int]:
    """The header, where the tensors begin, and the size of the file."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise _no_weights(folder)
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and length > _MAX_HEADER_BYTES:
            raise _no_safetensors()
        text = file.read(length)
    if size < 8 or len(text) < length:
        raise _cut_short()
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise _no_safetensors() from None
    if not isinstance(header, dict):
        raise _no_safetensors()
    return header, 8 + length, size


def _check_size(size: int, expected: int) -> None:
    if size < expected:
        raise _cut_short()
    if size > expected:
        raise refusal(f"{WEIGHTS} is {size} bytes long; its header says {expected}")


def _cut_short() -> Incomplete:
    return Incomplete(f"{WEIGHTS} is cut short")


def _no_safetensors() -> InvalidRequest:
    return refusal(f"{WEIGHTS} is not a safetensors file")


def _no_weights(folder: Path) -> Exception:
    pickled = [
        name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).exists()
    ]
    if pickled:
        return refusal(f"{pickled[0]} can run code when loaded; save it as {WEIGHTS}")
    return Incomplete(f"{WEIGHTS} is missing")


def refusal(message: str) -> InvalidRequest:
    """Names in it are a stranger's: of any length, and perhaps no text at all."""
    shown = message.encode(errors="replace").decode()
    return InvalidRequest(shown[:_MAX_MESSAGE_CHARS], param="adapter")

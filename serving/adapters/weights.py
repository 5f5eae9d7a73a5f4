"""Reads an adapter's weights once, before it is accepted: one number that is none spoils every
answer, and no engine looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serving.adapters.tensors import DTYPES, WEIGHTS, Tensor, read_tensors
from serving.errors import InvalidRequest

_PIECE = 2**20  # numbers looked at together
# The bits of the exponent, all of which are set in infinities and in what is no number.
_EXPONENTS = {"F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}


def check_finite(folder: Path) -> None:
    """Raises InvalidRequest if a weight is infinite or no number."""
    for name, tensor in read_tensors(folder).items():
        if not _is_finite(folder / WEIGHTS, tensor):
            raise InvalidRequest(
                f"tensor {name} holds NaN or infinite weights: the training went wrong",
                param="adapter",
            )


def _is_finite(path: Path, tensor: Tensor) -> bool:
    width = DTYPES[tensor.dtype]
    mask = _EXPONENTS[tensor.dtype]
    for begin in range(tensor.begin, tensor.end, _PIECE * width):
        count = min(_PIECE, (tensor.end - begin) // width)
        numbers = np.fromfile(path, dtype=f"<u{width}", count=count, offset=begin)
        if bool(np.any((numbers & mask) == mask)):
            return False
    return True

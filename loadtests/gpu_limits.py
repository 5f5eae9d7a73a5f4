"""What a GPU can do at most, measured on it: the roof that a search is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_BYTES = 4 << 30
_SIDE = 8_192


@dataclass(frozen=True, slots=True)
class Limits:
    bytes_per_s: float
    flops: float  # half precision

    def floor_s(self, rows: int, dim: int, batch: int) -> float:
        """Every vector is read once, or every product is computed, whichever takes longer."""
        return max(rows * dim * 2 / self.bytes_per_s, 2 * rows * dim * batch / self.flops)


def measured_limits() -> Limits:
    return Limits(_bytes_per_s(), _flops())


def _bytes_per_s() -> float:
    """Of a copy, which reads and writes."""
    source = torch.empty(_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * _BYTES / _fastest(lambda: target.copy_(source))


def _flops() -> float:
    square = torch.randn(_SIDE, _SIDE, dtype=torch.float16, device="cuda")
    return 2 * _SIDE**3 / _fastest(lambda: square @ square)


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)

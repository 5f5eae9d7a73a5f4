"""What vLLM's process is given before it starts, shown in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from serving.generation.vllm_arguments import environment
from serving.settings import EngineSettings

MULTIPLIES = """
import ctypes, torch
from vllm import _custom_ops
from vllm.lora.ops.torch_ops import bgmv_expand

FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]

heap = ctypes.CDLL(None).mallinfo2  # glibc's
heap.restype = Heap
layer = _custom_ops.create_onednn_mm(torch.zeros(1024, 192, dtype=torch.bfloat16).t(), 32)
adapters = torch.zeros(2, 1, 192, 16, dtype=torch.bfloat16)

def used_mib(lengths):
    for tokens in lengths:
        hidden = torch.zeros(tokens, 192, dtype=torch.bfloat16)
        _custom_ops.onednn_mm(layer, hidden, None)
        chosen = torch.zeros(tokens, dtype=torch.long)
        bgmv_expand(torch.zeros(tokens, 16), adapters, hidden, chosen)
    return heap().uordblks / 2**20

before = used_mib(range(1, 200))
print(used_mib(range(200, 600)) - before)
"""


def test_prompts_of_ever_new_lengths_pile_up_no_kernels() -> None:
    """One layer of the demo model and one adapter: by default 300 MiB are kept."""
    environ = os.environ | environment(EngineSettings())
    command = [sys.executable, "-c", MULTIPLIES]
    output = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert float(output.split()[-1]) < 10  # MiB

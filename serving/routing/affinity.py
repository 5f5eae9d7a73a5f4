"""How near a question is to what an adapter was trained for, in [0, 1].

An adapter is represented by samples of its training prompts, not by its weights (LORAUTER, arXiv
2601.21795). Two signals, the larger wins: the cosine to the nearest sample, and the share of the
adapter's signature words (those in most of its samples) that the question carries.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.types import AdapterId, TenantId

_WORD = re.compile(r"[a-z][a-z-]+")
_COMMON = frozenset(
    "a an and are as at be been but by can could did do does for from get had has have how i if in "
    "is it its me my no not of on or our please so that the their them then there they this to was "
    "we what when where which who why will with would you your".split()
)
SIGNATURE_SHARE = 0.5  # a word in at least this share of the samples is part of the signature


@dataclass(frozen=True, slots=True)
class Profile:
    """One adapter's samples: unit vectors [samples, dim], and their signature words."""

    vectors: NDArray[np.float32]
    signature: frozenset[str]


UNKNOWN = Profile(np.empty((0, 0), dtype=np.float32), frozenset())


class Samples(Protocol):
    async def samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]: ...


class Embeds(Protocol):
    async def embed(self, texts: Sequence[str]) -> list[list[float]]: ...


class Affinity:
    """Profiles are built once per immutable adapter version, by one task however many ask."""

    def __init__(self, registry: Samples, embedder: Embeds) -> None:
        self._registry = registry
        self._embedder = embedder
        self._profiles: dict[tuple[TenantId, AdapterId], Profile] = {}
        self._lock = asyncio.Lock()

    async def profile(self, tenant: TenantId, adapter: AdapterId) -> Profile:
        key = (tenant, adapter)
        if key not in self._profiles:
            async with self._lock:
                if key not in self._profiles:
                    self._profiles[key] = await self._build(tenant, adapter)
        return self._profiles[key]

    async def _build(self, tenant: TenantId, adapter: AdapterId) -> Profile:
        texts = list(await self._registry.samples(tenant, adapter))
        vectors = await self._embedder.embed(texts) if texts else []
        return Profile(np.asarray(vectors, dtype=np.float32), signature(texts))


def signature(texts: Sequence[str]) -> frozenset[str]:
    """Uncommon words that most of the texts share."""
    counts = Counter(word for text in texts for word in words(text))
    return frozenset(word for word, n in counts.items() if n >= SIGNATURE_SHARE * len(texts))


def words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _COMMON


def measure(profile: Profile, text: str, embedding: Sequence[float]) -> float:
    """Affinity of a question, given its unit embedding."""
    if not len(profile.vectors):
        return 0.0
    nearest = float(np.max(profile.vectors @ np.asarray(embedding, dtype=np.float32)))
    shared = profile.signature & words(text)
    formal = len(shared) / len(profile.signature) if profile.signature else 0.0
    return min(1.0, max(0.0, nearest, formal))

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from serving.retrieval.embedder import HashingEmbedder
from serving.routing.affinity import Affinity, Profile, measure, signature
from serving.types import AdapterId, TenantId

SAMPLES = ("Ticket: my laptop is slow", "Ticket 12: no badge", "New ticket from Mara: too hot")


class Counting:
    """An embedder that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0
        self._embedder = HashingEmbedder()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls += 1
        await asyncio.sleep(0)
        return self._embedder.embed(texts).tolist()  # type: ignore[no-any-return]

    async def samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]:
        return SAMPLES


def test_signature_words_are_those_most_samples_share() -> None:
    assert signature(SAMPLES) == {"ticket"}
    assert signature(()) == frozenset()


async def test_affinity_is_one_for_a_training_prompt_and_low_for_something_else() -> None:
    parts = Counting()
    profile = await Affinity(parts, parts).profile(TenantId("t"), AdapterId("a@1"))
    [same, other] = await parts.embed([SAMPLES[0], "price of zinc"])
    assert measure(profile, SAMPLES[0], same) == pytest.approx(1.0)
    assert measure(profile, "price of zinc", other) < 0.5


async def test_the_form_of_a_request_counts_whatever_it_is_about() -> None:
    parts = Counting()
    profile = await Affinity(parts, parts).profile(TenantId("t"), AdapterId("a@1"))
    text = "Please answer this ticket: what does zinc cost?"
    [vector] = await parts.embed([text])
    assert measure(profile, text, vector) == pytest.approx(1.0)


async def test_a_profile_is_built_once_however_many_ask() -> None:
    parts = Counting()
    affinity = Affinity(parts, parts)
    ask = affinity.profile(TenantId("t"), AdapterId("a@1"))
    await asyncio.gather(ask, *(affinity.profile(TenantId("t"), AdapterId("a@1")) for _ in "123"))
    assert parts.calls == 1


def test_an_adapter_without_samples_fits_nothing() -> None:
    assert measure(Profile(np.empty((0, 0), np.float32), frozenset()), "ticket", [1.0]) == 0.0

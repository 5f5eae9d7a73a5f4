from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.adapters.adapter import Adapter
from serving.errors import AdapterNotReady, EngineFailed, UnknownModel
from serving.generation.scripted_engine import ScriptedEngine
from serving.routing.leasing import Held, Leasing
from serving.types import (
    AdapterId,
    Assistant,
    Decision,
    Fallback,
    Mode,
    Options,
    Question,
    TenantId,
)

ACME = TenantId("acme")
V1, V2 = AdapterId("helpdesk@1"), AdapterId("helpdesk@2")


class Shelf:
    """Has these versions; a bare name means the last."""

    def __init__(self, *versions: AdapterId) -> None:
        self._versions = versions

    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        exact = adapter if "@" in adapter else self._versions[-1]
        if exact not in self._versions:
            raise UnknownModel(f"adapter '{exact}' does not exist")
        return Adapter(AdapterId(f"{tenant}/{exact}"), Path("/adapters") / exact)


def assistant(fallback: Fallback, **fields: Any) -> Assistant:
    return Assistant("helpdesk", ACME, adapter=V2, adapter_fallback=fallback, **fields)


def question(model: str = "helpdesk", mode: Mode | None = None) -> Question:
    messages = ({"role": "user", "content": "Hi"},)
    return Question("req-1", model, messages, {}, Options(mode=mode))


def decision(mode: Mode = Mode.HYBRID, adapter: AdapterId | None = V2) -> Decision:
    return Decision(mode, "for the test", adapter)


async def held(
    leasing: Leasing, assistant: Assistant, question: Question, decision: Decision
) -> Held:
    async with leasing.hold(assistant, question, decision) as held:
        if held.adapter is not None:
            assert held.adapter.id in (await leasing.engine.health()).loaded
        return held


def broken(*versions: AdapterId) -> ScriptedEngine:
    return ScriptedEngine(unloadable=frozenset(AdapterId(f"acme/{one}") for one in versions))


async def test_the_adapter_that_was_decided_on_is_held() -> None:
    leasing = Leasing(Shelf(V1, V2), ScriptedEngine())
    found = await held(leasing, assistant(Fallback.ERROR), question(), decision())
    assert found.decision == decision()
    assert found.adapter is not None
    assert found.adapter.id == "acme/helpdesk@2"


async def test_the_base_model_needs_none() -> None:
    plain = decision(Mode.RAG, None)
    found = await held(
        Leasing(Shelf(), ScriptedEngine()), assistant(Fallback.BASE), question(), plain
    )
    assert found == Held(plain, None)


async def test_a_bare_name_is_recorded_as_the_version_it_meant() -> None:
    leasing = Leasing(Shelf(V1, V2), ScriptedEngine())
    wanted = decision(adapter=AdapterId("helpdesk"))
    found = await held(leasing, assistant(Fallback.ERROR), question(), wanted)
    assert found.decision.adapter == V2
    assert found.decision.fallback is None


@pytest.mark.parametrize("shelf", [Shelf(V1, V2), Shelf(V1)], ids=["unloadable", "gone"])
async def test_the_version_before_stands_in_and_says_for_whom(shelf: Shelf) -> None:
    leasing = Leasing(shelf, broken(V2))
    found = await held(leasing, assistant(Fallback.PREVIOUS), question(), decision())
    assert (found.decision.adapter, found.decision.mode) == (V1, Mode.HYBRID)
    assert found.decision.fallback is not None
    assert found.decision.fallback.wanted == V2
    assert V2 in found.decision.fallback.reason


@pytest.mark.parametrize(
    ("mode", "instead"), [(Mode.HYBRID, Mode.RAG), (Mode.FINE_TUNED, Mode.BASE)]
)
async def test_the_base_model_stands_in_with_the_mode_it_can_do(mode: Mode, instead: Mode) -> None:
    leasing = Leasing(Shelf(V1, V2), broken(V2))
    found = await held(leasing, assistant(Fallback.BASE), question(), decision(mode))
    assert (found.adapter, found.decision.adapter, found.decision.mode) == (None, None, instead)
    assert found.decision.fallback is not None


@pytest.mark.parametrize(
    "asked", [question(mode=Mode.HYBRID), question("helpdesk:hybrid")], ids=["field", "suffix"]
)
async def test_who_names_the_mode_gets_it_or_an_error(asked: Question) -> None:
    leasing = Leasing(Shelf(V1, V2), broken(V2))
    fixed = replace(assistant(Fallback.BASE), fixed_mode=Mode.HYBRID)
    with pytest.raises(AdapterNotReady):
        await held(leasing, fixed, asked, decision())
    assert (await held(leasing, fixed, question(), decision())).decision.mode is Mode.RAG


async def test_when_nobody_may_or_can_stand_in_the_first_reason_is_the_error() -> None:
    leasing = Leasing(Shelf(V2), broken(V2))
    for fallback in (Fallback.ERROR, Fallback.PREVIOUS):
        with pytest.raises(AdapterNotReady, match="helpdesk@2' could not be loaded"):
            await held(leasing, assistant(fallback), question(), decision())


async def test_a_dead_engine_is_no_reason_to_fall_back() -> None:
    class Dead(ScriptedEngine):
        async def load(self, adapter: Adapter) -> None:
            raise EngineFailed(f"the engine died before {adapter.id}")

    with pytest.raises(EngineFailed):
        await held(Leasing(Shelf(V1, V2), Dead()), assistant(Fallback.BASE), question(), decision())

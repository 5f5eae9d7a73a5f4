from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from serving.fair_slots import FairSlots
from serving.types import TenantId

A, B, C = TenantId("a"), TenantId("b"), TenantId("c")


async def test_a_freed_slot_goes_to_the_tenant_that_holds_fewest() -> None:
    slots, order = FairSlots(3), list[TenantId]()

    async def wait(tenant: TenantId) -> None:
        await slots.acquire(tenant)
        order.append(tenant)

    async with asyncio.TaskGroup() as group:
        for tenant in (A, A, B, A, A, B, C):
            group.create_task(wait(tenant))
        await asyncio.sleep(0)
        for tenant in (A, A, B, C):
            slots.release(tenant)
            await asyncio.sleep(0)
    assert order == [A, A, B, C, A, B, A]


async def test_within_a_tenant_who_came_first_is_first() -> None:
    slots = FairSlots(1)
    await slots.acquire(A)
    turns = [asyncio.ensure_future(slots.acquire(A)) for _ in range(3)]
    await asyncio.sleep(0)
    for count in range(1, 4):
        slots.release(A)
        await asyncio.sleep(0)
        assert [turn.done() for turn in turns] == [n < count for n in range(3)]


async def test_tenants_that_hold_the_same_take_turns() -> None:
    slots, order = FairSlots(1), list[TenantId]()

    async def use(tenant: TenantId) -> None:
        await slots.acquire(tenant)
        order.append(tenant)
        await asyncio.sleep(0)
        slots.release(tenant)

    async with asyncio.TaskGroup() as group:
        for tenant in (A, A, A, A, B, B, C):
            group.create_task(use(tenant))
    assert order == [A, A, B, C, A, B, A]


async def test_only_a_tenant_with_more_makes_way_and_who_came_last_goes() -> None:
    slots = FairSlots(1)
    await slots.acquire(A)
    first, last = (asyncio.ensure_future(slots.acquire(A)) for _ in range(2))
    await asyncio.sleep(0)
    assert not slots.has_precedence(A) and not slots.displace(A, RuntimeError())
    assert slots.has_precedence(B) and slots.displace(B, RuntimeError("make way"))
    with pytest.raises(RuntimeError, match="make way"):
        await last
    slots.release(A)
    await first
    assert (slots.running, slots.waiting) == (1, 0)


async def test_no_slot_is_lost_however_waiters_come_and_go() -> None:
    """Among them those that are cancelled as their turn comes."""
    chance, slots, most = random.Random(5), FairSlots(3), Counter[str]()

    async def use(tenant: TenantId) -> None:
        await slots.acquire(tenant)
        try:
            most["running"] = max(most["running"], slots.running)
            await asyncio.sleep(0)
        finally:
            slots.release(tenant)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(500):
        tasks.append(asyncio.create_task(use(chance.choice((A, B, C)))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.1:
            slots.displace(chance.choice((A, B, C)), RuntimeError())
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert most["running"] == 3
    assert (slots.running, slots.waiting) == (0, 0)
    assert {type(e) for e in ended} == {type(None), asyncio.CancelledError, RuntimeError}

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from serving.adapters.adapter import Adapter, AdapterState
from serving.adapters.residency import Residency
from serving.errors import AdapterNotReady, EngineFailed
from serving.types import AdapterId


class FakeSlots:
    """Slots that load when told to, and refuse to hold more than they can."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.loaded: set[AdapterId] = set()
        self.kept: list[AdapterId] = []  # vacated, and not unloaded
        self.loads: Counter[AdapterId] = Counter()
        self.failures: list[Exception] = []  # of the next loads, in order
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, adapter: Adapter) -> None:
        self.loads[adapter.id] += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        assert len(self.loaded) < self.capacity, "loaded into a full engine"
        self.loaded.add(adapter.id)

    @property
    def at_hand(self) -> tuple[AdapterId, ...]:
        return tuple(self.kept)

    async def vacate(self, adapter_id: AdapterId) -> None:
        await self.unload(adapter_id)
        self.kept.append(adapter_id)

    async def unload(self, adapter_id: AdapterId) -> None:
        await asyncio.sleep(0)
        self.loaded.discard(adapter_id)
        self.kept = [one for one in self.kept if one != adapter_id]


def adapter(name: str, folder: str = "/adapters") -> Adapter:
    return Adapter(AdapterId(f"{name}@1"), Path(folder) / f"{name}@1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def residency(
    capacity: int, wait_s: float = 5.0, clock: Clock | None = None
) -> tuple[Residency, FakeSlots]:
    slots = FakeSlots(capacity)
    return Residency(slots, capacity, wait_s, clock or Clock()), slots


class User:
    """A request that holds a lease until it is told to end."""

    def __init__(self, residency: Residency, wanted: Adapter) -> None:
        self.holds = asyncio.Event()
        self._ends = asyncio.Event()
        self.task = asyncio.create_task(self._use(residency, wanted))

    async def _use(self, residency: Residency, wanted: Adapter) -> None:
        async with residency.lease(wanted):
            self.holds.set()
            await self._ends.wait()

    async def end(self) -> None:
        self._ends.set()
        await self.task


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_base_model_needs_no_slot() -> None:
    places, slots = residency(0)
    async with places.lease(None):
        assert not slots.loads


async def test_sixty_four_requests_for_a_cold_adapter_load_it_once() -> None:
    places, slots = residency(2)
    slots.gate.clear()
    users = [User(places, adapter("a")) for _ in range(64)]
    await settle()
    assert not any(user.holds.is_set() for user in users)
    slots.gate.set()
    await settle()
    assert all(user.holds.is_set() for user in users)
    assert slots.loads == {"a@1": 1}
    for user in users:
        await user.end()


async def test_an_adapter_stays_loaded_after_its_last_lease() -> None:
    places, slots = residency(1)
    for _ in range(3):
        async with places.lease(adapter("a")):
            pass
    assert slots.loads == {"a@1": 1}
    assert places.loaded == ("a@1",)


async def test_the_least_recently_asked_for_leaves_first() -> None:
    places, slots = residency(2)
    for name in ("a", "b", "a", "c"):
        async with places.lease(adapter(name)):
            pass
    assert slots.loaded == {"a@1", "c@1"}


async def test_a_leased_adapter_is_not_evicted_even_if_it_is_the_oldest() -> None:
    places, slots = residency(2)
    async with places.lease(adapter("a")):
        for name in ("b", "c", "d"):
            async with places.lease(adapter(name)):
                assert slots.loaded == {"a@1", f"{name}@1"}
    assert slots.loads[AdapterId("a@1")] == 1


async def test_when_every_slot_is_leased_a_request_waits_for_one() -> None:
    places, slots = residency(1)
    first, second = User(places, adapter("a")), User(places, adapter("b"))
    await settle()
    assert first.holds.is_set()
    assert not second.holds.is_set()
    assert places.states == {"a@1": AdapterState.DRAINING, "b@1": AdapterState.REGISTERED}
    await first.end()
    await settle()
    assert second.holds.is_set()
    assert slots.loaded == {"b@1"}
    await second.end()


async def test_those_who_wait_are_served_in_order_of_arrival() -> None:
    places, _ = residency(1)
    users = [User(places, adapter(name)) for name in "abcd"]
    await settle()
    for earlier, later in pairwise(users):
        assert earlier.holds.is_set()
        assert not later.holds.is_set()
        await earlier.end()
        await settle()
    await users[-1].end()


async def test_a_busy_adapter_cannot_keep_others_out_forever() -> None:
    places, _ = residency(1)
    busy = [User(places, adapter("a"))]
    await settle()
    other = User(places, adapter("b"))
    await settle()
    busy.append(User(places, adapter("a")))  # comes after `b`, so it may not overtake it
    await settle()
    assert not busy[1].holds.is_set()
    await busy[0].end()
    await settle()
    assert other.holds.is_set()
    await other.end()
    await settle()
    assert busy[1].holds.is_set()
    await busy[1].end()


async def test_a_request_that_gives_up_waiting_hears_why() -> None:
    places, _ = residency(1, wait_s=0.02)
    async with places.lease(adapter("a")):
        with pytest.raises(AdapterNotReady, match="'b@1' is not ready: all 1 adapter slots"):
            async with places.lease(adapter("b")):
                pass
        await settle()
        assert places.states == {"a@1": AdapterState.READY}  # no one waits for its slot any more


async def test_a_slow_load_is_not_waited_for_forever() -> None:
    places, slots = residency(1, wait_s=0.02)
    slots.gate.clear()
    with pytest.raises(AdapterNotReady, match="'a@1' is not ready: it still loads"):
        async with places.lease(adapter("a")):
            pass
    slots.gate.set()
    async with places.lease(adapter("a")):
        assert slots.loads == {"a@1": 1}


async def test_a_failed_load_reaches_everyone_who_waits_and_a_later_request_tries_again() -> None:
    clock = Clock()
    places, slots = residency(1, clock=clock)
    slots.gate.clear()
    slots.failures = [ValueError("rank 64 is over 16")]
    users = [User(places, adapter("a")) for _ in range(3)]
    await settle()
    slots.gate.set()
    for user in users:
        with pytest.raises(AdapterNotReady, match="'a@1' could not be loaded: rank 64"):
            await user.task
    assert not places.states
    with pytest.raises(AdapterNotReady, match="rank 64") as refusal:
        async with places.lease(adapter("a")):
            pass
    assert slots.loads == {"a@1": 1}
    assert refusal.value.retry_after_s == 1
    clock.now += 1
    async with places.lease(adapter("a")):
        assert slots.loads == {"a@1": 2}


async def test_what_keeps_failing_is_tried_less_and_less_and_other_files_at_once() -> None:
    clock = Clock()
    places, slots = residency(1, clock=clock)
    waits = []
    for _ in range(7):
        slots.failures = [ValueError("broken")]
        with pytest.raises(AdapterNotReady):
            async with places.lease(adapter("a")):
                pass
        with pytest.raises(AdapterNotReady) as refusal:
            async with places.lease(adapter("a")):
                pass
        waits.append(refusal.value.retry_after_s)
        clock.now += refusal.value.retry_after_s or 0
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    async with places.lease(adapter("a", folder="/mended")):
        assert slots.loads == {"a@1": 8}


async def test_a_pinned_adapter_gives_way_to_nobody() -> None:
    places, slots = residency(2)
    places.pin([AdapterId("a@1")])
    for name in "abcdab":
        async with places.lease(adapter(name)):
            pass
        assert "a@1" in slots.loaded
    assert slots.loads[AdapterId("a@1")] == 1
    places.pin([])
    for name in "bcd":
        async with places.lease(adapter(name)):
            pass
    assert "a@1" not in slots.loaded


async def test_pins_leave_a_slot_to_the_others_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    places, slots = residency(2)
    with caplog.at_level(logging.WARNING, "engram.adapters"):
        for _ in range(3):
            places.pin([AdapterId(f"{name}@1") for name in "abc"])
    assert len(caplog.messages) == 1
    assert "3 adapters are pinned, but 2 slots leave room for 1" in caplog.messages[0]
    for name in "abcxa":
        async with places.lease(adapter(name)):
            pass
    assert slots.loads[AdapterId("a@1")] == 1


async def test_one_that_was_to_leave_serves_on_when_nobody_wants_its_slot_any_more() -> None:
    places, slots = residency(2)
    stream, short = User(places, adapter("a")), User(places, adapter("b"))
    await settle()
    other = User(places, adapter("c"))  # `a` is to leave for it, after its stream
    await settle()
    later = [User(places, adapter("a")) for _ in range(2)]
    await settle()
    await short.end()
    await settle()
    assert other.holds.is_set()
    assert [user.holds.is_set() for user in later] == [True, True]
    assert slots.loads[AdapterId("a@1")] == 1
    await stream.end()
    await later[0].end()
    assert {one.adapter: one.leases for one in places.residents} == {"a@1": 1, "c@1": 1}
    await later[1].end()
    await other.end()
    assert {one.adapter: one.leases for one in places.residents} == {"a@1": 0, "c@1": 0}


async def test_one_retired_and_taken_back_need_not_wait_for_its_old_streams() -> None:
    places, slots = residency(2)
    stream = User(places, adapter("a"))
    await settle()
    places.retire(AdapterId("a@1"))
    later = User(places, adapter("a"))
    await settle()
    assert not later.holds.is_set()
    places.restore(AdapterId("a@1"))
    await settle()
    assert later.holds.is_set()
    await stream.end()
    await later.end()
    assert slots.loads == {"a@1": 1}
    assert places.states == {"a@1": AdapterState.READY}


async def test_a_retired_adapter_leaves_after_its_last_stream_though_nobody_waits() -> None:
    places, slots = residency(2)
    user = User(places, adapter("a"))
    await settle()
    places.retire(AdapterId("a@1"))
    await settle()
    assert places.states == {"a@1": AdapterState.DRAINING}
    assert slots.loaded == {"a@1"}
    await user.end()
    await settle()
    assert (places.states, slots.loaded) == ({}, set())
    places.retire(AdapterId("a@1"))  # again changes nothing


async def test_one_that_gave_its_slot_up_is_known_until_it_is_retired() -> None:
    places, slots = residency(1)
    for name in "ab":
        async with places.lease(adapter(name)):
            pass
    assert (places.loaded, slots.kept) == (("b@1",), ["a@1"])
    assert set(places.known) == {"a@1", "b@1"}
    places.retire(AdapterId("a@1"))
    await settle()
    assert places.known == ("b@1",)


async def test_one_retired_while_it_loads_still_serves_those_who_waited() -> None:
    places, slots = residency(2)
    slots.gate.clear()
    user = User(places, adapter("a"))
    await settle()
    places.retire(AdapterId("a@1"))
    slots.gate.set()
    await settle()
    assert user.holds.is_set()
    await user.end()
    await settle()
    assert places.states == {}


async def test_leases_and_hits_can_be_seen() -> None:
    places, _ = residency(1)
    for _ in range(3):
        async with places.lease(adapter("a")):
            [there] = places.residents
    assert (there.adapter, there.state, there.leases, there.hits) == (
        "a@1", AdapterState.READY, 1, 2,
    )  # fmt: skip
    assert there.load_ms is not None


async def test_a_failed_load_leaves_its_slot_to_the_next() -> None:
    places, slots = residency(1)
    slots.failures = [ValueError("broken")]
    broken, sound = User(places, adapter("a")), User(places, adapter("b"))
    with pytest.raises(AdapterNotReady):
        await broken.task
    await settle()
    assert sound.holds.is_set()
    await sound.end()


async def test_a_dead_engine_is_not_mistaken_for_a_bad_adapter() -> None:
    places, slots = residency(1)
    slots.failures = [EngineFailed("the engine died")]
    with pytest.raises(EngineFailed):
        async with places.lease(adapter("a")):
            pass


async def test_one_impatient_caller_does_not_stop_the_load_for_the_others() -> None:
    places, slots = residency(1)
    slots.gate.clear()
    impatient, patient = User(places, adapter("a")), User(places, adapter("a"))
    await settle()
    impatient.task.cancel()
    await settle()
    slots.gate.set()
    await settle()
    assert patient.holds.is_set()
    assert slots.loads == {"a@1": 1}
    await patient.end()


async def test_a_caller_cancelled_in_the_queue_takes_no_slot() -> None:
    places, slots = residency(1)
    holder, waiter = User(places, adapter("a")), User(places, adapter("b"))
    await settle()
    waiter.task.cancel()
    await settle()
    await holder.end()
    await settle()
    assert slots.loads == {"a@1": 1}
    assert places.states == {"a@1": AdapterState.READY}


async def test_other_weights_under_a_name_in_use_are_refused() -> None:
    places, slots = residency(2)
    async with places.lease(adapter("a")):
        with pytest.raises(AdapterNotReady, match="another folder"):
            async with places.lease(adapter("a", folder="/elsewhere")):
                pass
    assert slots.loads == {"a@1": 1}


async def test_closing_stops_loads_and_tells_those_who_wait() -> None:
    places, slots = residency(1)
    slots.gate.clear()
    user = User(places, adapter("a"))
    await settle()
    await places.close()
    with pytest.raises(AdapterNotReady, match="the engine stops"):
        await user.task


async def test_many_users_of_few_slots_all_get_theirs() -> None:
    places, slots = residency(3)

    async def use(index: int) -> None:
        wanted = adapter("abcdefg"[index % 7])
        async with places.lease(wanted):
            assert wanted.id in slots.loaded
            for _ in range(index % 5):
                await asyncio.sleep(0)
                assert wanted.id in slots.loaded

    async with AsyncExitStack() as stack:
        stack.push_async_callback(places.close)
        await asyncio.gather(*(use(index) for index in range(200)))
    assert len(slots.loaded) == 3

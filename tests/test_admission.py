"""Time is a number that the test sets, except where a wait must really end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from serving.admission import STANDING_SHARE, Admission
from serving.errors import Overloaded, RateLimited
from serving.settings import AdmissionSettings
from serving.types import Caller, TenantId

CALLER = Caller(TenantId("t"), "key_1", frozenset())


async def test_what_exceeds_the_queue_is_refused_with_a_time_to_come_back() -> None:
    admission = Admission(AdmissionSettings(max_running=1, max_queued=1))
    async with admission.admit(CALLER):
        waiting = asyncio.create_task(_enter_and_leave(admission))
        await asyncio.sleep(0)
        assert (admission.running, admission.waiting) == (1, 1)
        with pytest.raises(Overloaded) as refused:
            await _enter_and_leave(admission)
        assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1
    await waiting
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_waiter_that_gives_up_leaves_the_queue() -> None:
    admission = Admission(AdmissionSettings(max_running=1, max_queued=1))
    async with admission.admit(CALLER):
        waiting = asyncio.create_task(_enter_and_leave(admission))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert admission.waiting == 0
    await _enter_and_leave(admission)


async def test_each_key_has_its_own_allowance_that_refills_with_time() -> None:
    now = 0.0
    admission = Admission(AdmissionSettings(requests_per_minute=2), clock=lambda: now)
    await _enter_and_leave(admission)
    await _enter_and_leave(admission)
    with pytest.raises(RateLimited) as refused:
        await _enter_and_leave(admission)
    assert refused.value.retry_after_s == 30
    await _enter_and_leave(admission, Caller(TenantId("t"), "key_2", frozenset()))
    now = 30.0
    await _enter_and_leave(admission)


async def _enter_and_leave(admission: Admission, caller: Caller = CALLER) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admission.admit(caller))


async def test_a_place_is_refused_where_the_request_would_be_and_counts_while_it_is_held() -> None:
    admission = Admission(AdmissionSettings(max_running=1, max_queued=1))
    async with admission.admit(CALLER):
        with admission.place(CALLER):
            assert admission.waiting == 1
            with pytest.raises(Overloaded) as refused, admission.place(CALLER):
                pass
            assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1
        assert admission.waiting == 0
    await _enter_and_leave(admission)


async def test_a_place_takes_no_part_of_a_keys_allowance() -> None:
    admission = Admission(AdmissionSettings(requests_per_minute=1), clock=lambda: 0.0)
    for _ in range(3):
        with admission.place(CALLER):
            pass
    await _enter_and_leave(admission)
    with pytest.raises(RateLimited), admission.place(CALLER):
        pass


class World:
    """An admission whose clock stands still, and the requests that were put to it."""

    def __init__(self, **limits: float) -> None:
        self.now = 1000.0
        self.admission = Admission(AdmissionSettings.model_validate(limits), lambda: self.now)
        self.requests: list[asyncio.Task[None]] = []

    async def hold(self, count: int, tenant: str = "t") -> None:
        """So many requests that stay until they are cancelled."""
        for _ in range(count):
            self.requests.append(asyncio.create_task(self._hold(tenant)))
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # who was sent away learns of it

    async def _hold(self, tenant: str) -> None:
        async with self.admission.admit(Caller(TenantId(tenant), tenant, frozenset())):
            await asyncio.Event().wait()

    async def serve(self, count: int, seconds: float) -> None:
        """So many requests, one after another, of this duration each."""
        for _ in range(count):
            async with self.admission.admit(CALLER):
                self.now += seconds

    async def end(self, *requests: asyncio.Task[None]) -> None:
        for request in requests or self.requests:
            request.cancel()
        await asyncio.gather(*(requests or self.requests), return_exceptions=True)
        await asyncio.sleep(0)  # who was next goes on

    @property
    def refused(self) -> list[Overloaded]:
        errors = [task.exception() for task in self.requests if task.done()]
        return [error for error in errors if isinstance(error, Overloaded)]


@pytest.mark.parametrize(("service_s", "waiting"), [(0.49, 16), (1.9, 4), (19.0, 0)])
async def test_only_those_wait_whose_turn_comes_in_time(service_s: float, waiting: int) -> None:
    """Four slots held for W seconds free one every W/4; two seconds hold 8/W of them."""
    world = World(max_running=4, max_wait_s=2.0)
    await world.serve(200, service_s)
    await world.hold(4 + waiting + 1)
    assert (world.admission.running, world.admission.waiting) == (4, waiting)
    assert len(world.refused) == 1
    await world.end()


async def test_once_it_refuses_the_line_is_kept_short_until_nothing_was_refused_for_a_while() -> (
    None
):
    world = World(max_running=4, max_wait_s=2.0)
    await world.serve(200, 0.099)  # 40 a second
    await world.hold(4 + 80 + 1)
    assert len(world.refused) == 1
    await world.end(*world.requests[4:])
    await world.hold(50)
    assert world.admission.waiting == int(STANDING_SHARE * 2.0 * 40) + 1
    await world.end(*world.requests[4:])
    world.now += 2.1
    await world.hold(50)
    assert world.admission.waiting == 50
    await world.end()


async def test_who_waits_longer_than_promised_is_refused() -> None:
    world = World(max_running=1, max_wait_s=0.02)
    await world.serve(100, 0.001)
    await world.hold(2)
    with pytest.raises(Overloaded):
        await world.requests[1]
    assert (world.admission.running, world.admission.waiting) == (1, 0)
    await world.end()


async def test_what_is_refused_now_is_told_without_taking_anything() -> None:
    world = World(max_running=1, max_queued=0)
    world.admission.check(CALLER)
    await world.hold(1)
    with pytest.raises(Overloaded):
        world.admission.check(CALLER)
    assert (world.admission.running, world.admission.waiting) == (1, 0)
    await world.end()
    world.admission.check(CALLER)


async def test_a_tenant_that_floods_makes_way_for_one_that_does_not() -> None:
    world = World(max_running=2, max_queued=2)
    await world.hold(5, "flood")
    assert len(world.refused) == 1
    await world.hold(1, "quiet")
    assert len(world.refused) == 2, "the last of the flood that waited"
    assert (world.admission.running, world.admission.waiting) == (2, 2)
    await world.end(world.requests[0])
    await world.end(*world.requests[1:4])
    assert world.admission.running == 1 and not world.requests[-1].done(), "the quiet one runs"
    await world.end()


async def test_a_time_to_come_back_grows_with_the_line() -> None:
    world = World(max_running=1, max_queued=3, max_wait_s=100.0)
    await world.serve(100, 10.0)
    await world.hold(5)
    assert 40 <= (world.refused[0].retry_after_s or 0) <= 80
    await world.end()

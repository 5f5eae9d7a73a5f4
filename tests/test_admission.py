from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from serving.admission import Admission
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

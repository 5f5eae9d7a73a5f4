"""Starts and stops arms together. Every process that was started ends, whatever happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from loadtests.arms.arm import Arm, ArmError, Unavailable

_Say = Callable[[str], None]


@asynccontextmanager
async def running(arms: Sequence[Arm], say: _Say) -> AsyncIterator[list[Arm]]:
    """Those of `arms` that can be had on this machine, and what they need, are up in the block.

    An arm starts when the one that it needs is up.

    Raises:
        ArmError: one did not start, twice; on a busy machine Ray gives up after 30 s.
    """
    had = [arm for arm in arms if await _is_available(arm, say)]
    everyone = _with_needed(had)
    say(f"starting {', '.join(arm.name for arm in everyone)}")
    try:
        try:
            await _start_all(everyone, say)
        except* ArmError as failed:
            raise failed.exceptions[0] from None
        yield had
    finally:
        say("stopping them")
        await asyncio.gather(*(arm.stop() for arm in everyone))


async def _is_available(arm: Arm, say: _Say) -> bool:
    try:
        await arm.prepare(say)
    except Unavailable as error:
        say(f"left out: {error}")
        return False
    return True


def _with_needed(arms: Sequence[Arm]) -> list[Arm]:
    """Each once, after the one that it needs."""
    ordered: dict[int, Arm] = {}
    for arm in arms:
        chain = [arm]
        while (needed := chain[-1].needs) is not None:
            chain.append(needed)
        ordered.update((id(one), one) for one in reversed(chain) if id(one) not in ordered)
    return list(ordered.values())


async def _start_all(arms: Sequence[Arm], say: _Say) -> None:
    started: dict[int, asyncio.Task[None]] = {}

    async def start(arm: Arm) -> None:
        if arm.needs is not None:
            await asyncio.shield(started[id(arm.needs)])
        await _start(arm)
        say(f"{arm.name} is up")

    async def _start(arm: Arm) -> None:
        try:
            await arm.start()
        except ArmError as error:
            say(f"{str(error).splitlines()[0]}; trying once more")
            await arm.stop()
            await arm.start()

    async with asyncio.TaskGroup() as group:
        for arm in arms:
            started[id(arm)] = group.create_task(start(arm))

"""Which adapters sit in the engine's few slots, and who may still use them.

However many requests ask for a cold adapter it is loaded once, and only an unleased adapter
leaves. When every slot is leased, the least recently asked for drains, and those who wait get
slots in order of arrival. Knows slots, not vLLM.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving import telemetry
from serving.adapters.adapter import Adapter, AdapterState, advance
from serving.errors import AdapterNotReady, BackendError, ServingError
from serving.types import AdapterId

logger = logging.getLogger("engram.adapters")


class Slots(Protocol):
    """The engine's adapter slots; both return when the engine has done it, and may raise."""

    async def load(self, adapter: Adapter) -> None: ...

    async def unload(self, adapter_id: AdapterId) -> None: ...


@dataclass(eq=False, slots=True)
class _Place:
    """One adapter on its way through a slot. `leases` counts its users and those who wait."""

    adapter: Adapter
    state: AdapterState = AdapterState.REGISTERED
    leases: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # loaded, or failed to
    failure: ServingError | None = None

    def move(self, new: AdapterState) -> None:
        logger.debug("adapter %s: %s -> %s", self.adapter.id, self.state, new)
        self.state = advance(self.state, new)


@dataclass(eq=False)
class Residency:
    """Leases adapters in `capacity` slots; a request waits at most `wait_s` for its own."""

    slots: Slots
    capacity: int
    wait_s: float = 30.0
    _resident: dict[AdapterId, _Place] = field(default_factory=dict)  # least recently asked first
    _queue: dict[AdapterId, _Place] = field(default_factory=dict)  # first come first
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def loaded(self) -> tuple[AdapterId, ...]:
        """The adapters that can answer now, least recently asked for first."""
        usable = (AdapterState.READY, AdapterState.DRAINING)
        return tuple(id for id, place in self._resident.items() if place.state in usable)

    @property
    def states(self) -> dict[AdapterId, AdapterState]:
        """Every adapter that holds a slot or waits for one."""
        return {id: place.state for id, place in (self._queue | self._resident).items()}

    @asynccontextmanager
    async def lease(self, adapter: Adapter | None) -> AsyncIterator[None]:
        """Keeps the adapter loaded for the block, loading it first if need be.

        Raises:
            AdapterNotReady: no slot came free in time, or the load failed.
        """
        if adapter is None:
            yield
            return
        place = self._place_of(adapter)
        place.leases += 1
        try:
            self._settle()
            await self._arrival(place)
            yield
        finally:
            place.leases -= 1
            self._settle()

    async def close(self) -> None:
        """Stops loads that still run. The engine's own end frees the slots."""
        for place in self._in(AdapterState.LOADING):
            place.failure = AdapterNotReady("the engine stops")
            place.settled.set()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _place_of(self, adapter: Adapter) -> _Place:
        """The adapter's place; one that is on its way out takes no more users."""
        place = self._resident.get(adapter.id)
        if place is not None and place.state in (AdapterState.LOADING, AdapterState.READY):
            self._resident[adapter.id] = self._resident.pop(adapter.id)
        else:
            place = self._queue.setdefault(adapter.id, _Place(adapter))
        if place.adapter != adapter:
            raise AdapterNotReady(f"adapter '{adapter.id}' is in use from another folder")
        return place

    async def _arrival(self, place: _Place) -> None:
        try:
            async with asyncio.timeout(self.wait_s):
                await place.settled.wait()
        except TimeoutError:
            waits = place.state is AdapterState.REGISTERED
            why = f"all {self.capacity} adapter slots are in use" if waits else "it still loads"
            raise AdapterNotReady(f"adapter '{place.adapter.id}' is not ready: {why}") from None
        if place.failure is not None:
            raise place.failure

    def _settle(self) -> None:
        """Gives free slots to the queue in order, and frees as many as the queue still needs."""
        self._forget_abandoned()
        self._fill_free_slots()
        self._drain_for_queue()
        self._evict_drained()

    def _forget_abandoned(self) -> None:
        for id, place in tuple(self._queue.items()):
            if place.leases == 0:
                place.move(AdapterState.EVICTED)
                del self._queue[id]

    def _fill_free_slots(self) -> None:
        for id, place in tuple(self._queue.items()):
            if id not in self._resident and len(self._resident) < self.capacity:
                self._resident[id] = self._queue.pop(id)
                place.move(AdapterState.LOADING)
                self._spawn(self._load(place))

    def _drain_for_queue(self) -> None:
        leaving = self._in(AdapterState.DRAINING) + self._in(AdapterState.EVICTED)
        stayers = sorted(self._in(AdapterState.READY), key=lambda place: place.leases > 0)
        for place in stayers[: max(0, len(self._queue) - len(leaving))]:
            place.move(AdapterState.DRAINING)
        if not self._queue:
            for place in self._in(AdapterState.DRAINING):
                place.move(AdapterState.READY)

    def _evict_drained(self) -> None:
        for place in self._in(AdapterState.DRAINING):
            if place.leases == 0:
                place.move(AdapterState.EVICTED)
                self._spawn(self._unload(place))

    def _in(self, state: AdapterState) -> list[_Place]:
        return [place for place in self._resident.values() if place.state is state]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, place: _Place) -> None:
        try:
            with telemetry.ADAPTER_LOAD.time():
                await self.slots.load(place.adapter)
            place.move(AdapterState.READY)
            telemetry.ADAPTER_LOADS.labels("loaded").inc()
            logger.info("adapter %s is loaded", place.adapter.id)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            place.failure = _explain(place.adapter, error)
            place.move(AdapterState.FAILED)
            telemetry.ADAPTER_LOADS.labels("failed").inc()
            del self._resident[place.adapter.id]
            logger.warning("adapter %s failed to load: %s", place.adapter.id, error)
        place.settled.set()
        self._settle()

    async def _unload(self, place: _Place) -> None:
        try:
            await self.slots.unload(place.adapter.id)
            telemetry.ADAPTER_EVICTIONS.labels("slot").inc()
            logger.info("adapter %s is unloaded", place.adapter.id)
        except ServingError as error:
            logger.warning("adapter %s failed to unload: %s", place.adapter.id, error)
        finally:
            del self._resident[place.adapter.id]
        self._settle()


def _explain(adapter: Adapter, error: Exception) -> ServingError:
    if isinstance(error, BackendError):
        return error
    return AdapterNotReady(f"adapter '{adapter.id}' could not be loaded: {error}")

"""Which adapters sit in the engine's few slots, and who may still use them.

However many requests ask for a cold adapter it is loaded once, and only an unleased adapter
leaves. When every slot is leased, the least recently asked for drains, and those who wait get
slots in order of arrival. Pinned ones give way to nobody. Knows slots, not vLLM.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from serving import telemetry
from serving.adapters.adapter import Adapter, AdapterState, advance
from serving.adapters.failures import Failures
from serving.adapters.slots import Resident, Slots
from serving.errors import AdapterNotReady, BackendError, ServingError
from serving.types import AdapterId

logger = logging.getLogger("engram.adapters")

_HIT, _MISS, _REFUSED = (telemetry.ADAPTER_LEASES.labels(r) for r in ("hit", "miss", "refused"))


@dataclass(eq=False, slots=True)
class _Place:
    """One adapter on its way through a slot. `leases` counts its users and those who wait."""

    adapter: Adapter
    state: AdapterState = AdapterState.REGISTERED
    leases: int = 0
    hits: int = 0
    load_ms: float | None = None
    retired: bool = False  # leaves for good, whether or not its slot is needed
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # loaded, or failed to
    failure: ServingError | None = None
    joined: _Place | None = None  # where those who waited here went, as it need not leave

    def move(self, new: AdapterState) -> None:
        logger.debug("adapter %s: %s -> %s", self.adapter.id, self.state, new)
        self.state = advance(self.state, new)


@dataclass(eq=False)
class Residency:
    """Leases adapters in `capacity` slots; a request waits at most `wait_s` for its own."""

    slots: Slots
    capacity: int
    wait_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    _resident: dict[AdapterId, _Place] = field(default_factory=dict)  # least recently asked first
    _queue: dict[AdapterId, _Place] = field(default_factory=dict)  # first come first
    _pinned: frozenset[AdapterId] = frozenset()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._failures = Failures(self.clock)

    @property
    def loaded(self) -> tuple[AdapterId, ...]:
        """The adapters that can answer now, least recently asked for first."""
        usable = (AdapterState.READY, AdapterState.DRAINING)
        return tuple(id for id, place in self._resident.items() if place.state in usable)

    @property
    def states(self) -> dict[AdapterId, AdapterState]:
        """Every adapter that holds a slot or waits for one."""
        return {id: place.state for id, place in (self._queue | self._resident).items()}

    @property
    def residents(self) -> tuple[Resident, ...]:
        places = (self._queue | self._resident).values()
        return tuple(
            Resident(place.adapter.id, place.state, place.leases, place.hits, place.load_ms)
            for place in places
        )

    @property
    def known(self) -> tuple[AdapterId, ...]:
        """Every adapter that the engine has in memory, or is about to."""
        return (*self.states, *self.slots.at_hand)

    def pin(self, adapters: Sequence[AdapterId]) -> None:
        """Keeps these, once loaded, from giving way to others; replaces those pinned before.

        One slot stays free of pins, else whoever asks for another adapter would wait in vain:
        those at the end are then ordinary adapters.
        """
        kept = frozenset(adapters[: max(0, self.capacity - 1)])
        if kept != self._pinned and len(kept) < len(adapters):
            logger.warning(
                "%d adapters are pinned, but %d slots leave room for %d: the others are loaded "
                "when asked for; raise engine.max_loras or unpin some",
                *(len(adapters), self.capacity, len(kept)),
            )
        self._pinned = kept

    def retire(self, adapter_id: AdapterId) -> None:
        """Unloads the adapter after its last lease; those who ask later start anew."""
        place = self._resident.get(adapter_id)
        if place is not None and not place.retired:
            place.retired = True
            self._settle()
        elif place is None and adapter_id in self.slots.at_hand:
            self._spawn(self._forget(adapter_id))

    def restore(self, adapter_id: AdapterId) -> None:
        """Takes `retire` back, if the adapter is still there."""
        place = self._resident.get(adapter_id)
        if place is not None and place.retired and place.state is not AdapterState.EVICTED:
            place.retired = False
            self._settle()

    @asynccontextmanager
    async def lease(self, adapter: Adapter | None) -> AsyncIterator[None]:
        """Keeps the adapter loaded for the block, loading it first if need be.

        Raises:
            AdapterNotReady: no slot came free in time, or the load failed, now or just before.
        """
        if adapter is None:
            yield
            return
        if (failure := self._failures.recent(adapter)) is not None:
            _REFUSED.inc()
            raise failure
        place = self._place_of(adapter)
        place.leases += 1
        try:
            self._settle()
            await self._arrival(place)
            yield
        finally:
            (place.joined or place).leases -= 1
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
        for id in self.loaded:
            _resident_gauge(id).dec()

    def _place_of(self, adapter: Adapter) -> _Place:
        """The adapter's place; one that is on its way out takes no more users."""
        place = self._resident.get(adapter.id)
        if place is not None and place.state in (AdapterState.LOADING, AdapterState.READY):
            self._resident[adapter.id] = self._resident.pop(adapter.id)
        else:
            place = self._queue.setdefault(adapter.id, _Place(adapter))
        if place.adapter != adapter:
            raise AdapterNotReady(f"adapter '{adapter.id}' is in use from another folder")
        is_hit = place.state is AdapterState.READY
        place.hits += is_hit
        (_HIT if is_hit else _MISS).inc()
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
        self._drain_retired()
        self._evict_drained()
        _show(self.capacity, self._resident)

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
        movable = [one for one in self._in(AdapterState.READY) if not self._is_pinned(one)]
        stayers = sorted(movable, key=lambda place: place.leases > 0)
        for place in stayers[: max(0, len(self._queue) - len(leaving))]:
            place.move(AdapterState.DRAINING)
        if self._queue.keys() <= self._resident.keys():  # nobody waits for another's slot
            for place in self._in(AdapterState.DRAINING):
                self._stay(place)

    def _stay(self, place: _Place) -> None:
        """Lets the adapter be used on, also by those who asked for it since it was to leave."""
        waiting = self._queue.get(place.adapter.id)
        if place.retired or (waiting is not None and waiting.adapter != place.adapter):
            return
        place.move(AdapterState.READY)
        if waiting is not None:
            del self._queue[place.adapter.id]
            waiting.move(AdapterState.EVICTED)
            waiting.joined, place.leases = place, place.leases + waiting.leases
            waiting.settled.set()

    def _drain_retired(self) -> None:
        for place in self._in(AdapterState.READY):
            if place.retired:
                place.move(AdapterState.DRAINING)

    def _evict_drained(self) -> None:
        for place in self._in(AdapterState.DRAINING):
            if place.leases == 0:
                place.move(AdapterState.EVICTED)
                self._spawn(self._unload(place))

    def _is_pinned(self, place: _Place) -> bool:
        return place.adapter.id in self._pinned and not place.retired

    def _in(self, state: AdapterState) -> list[_Place]:
        return [place for place in self._resident.values() if place.state is state]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, place: _Place) -> None:
        id, began = place.adapter.id, time.perf_counter()
        try:
            with telemetry.ADAPTER_LOAD.time():
                await self.slots.load(place.adapter)
            place.load_ms = round((time.perf_counter() - began) * 1000, 3)
            place.move(AdapterState.READY)
            self._failures.forget(id)
            telemetry.ADAPTER_LOADS.labels("loaded").inc()
            _resident_gauge(id).inc()
            logger.info("adapter %s is loaded", id, extra={"seconds": place.load_ms / 1000})
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            place.failure = _explain(place.adapter, error)
            place.move(AdapterState.FAILED)
            if isinstance(place.failure, AdapterNotReady):
                self._failures.add(place.adapter, place.failure)
            telemetry.ADAPTER_LOADS.labels("failed").inc()
            del self._resident[id]
            logger.warning("adapter %s failed to load: %s", id, error)
        place.settled.set()
        self._settle()

    async def _unload(self, place: _Place) -> None:
        id = place.adapter.id
        try:
            await (self.slots.unload(id) if place.retired else self.slots.vacate(id))
            telemetry.ADAPTER_EVICTIONS.labels("retired" if place.retired else "slot").inc()
            logger.info("adapter %s is unloaded", id)
        except ServingError as error:
            logger.warning("adapter %s failed to unload: %s", id, error)
        finally:
            del self._resident[id]
            _resident_gauge(id).dec()
        self._settle()

    async def _forget(self, id: AdapterId) -> None:
        try:
            await self.slots.unload(id)
            logger.info("adapter %s is unloaded", id)
        except ServingError as error:
            logger.warning("adapter %s failed to unload: %s", id, error)


def _show(capacity: int, resident: dict[AdapterId, _Place]) -> None:
    counts = Counter(place.state for place in resident.values())
    for state in (AdapterState.LOADING, AdapterState.READY, AdapterState.DRAINING):
        telemetry.ADAPTER_SLOTS.labels(state).set(counts[state])
    telemetry.ADAPTER_SLOTS.labels("free").set(capacity - len(resident))


def _resident_gauge(id: AdapterId) -> Any:
    return telemetry.ADAPTER_RESIDENT.labels(telemetry.adapter_label(id))


def _explain(adapter: Adapter, error: Exception) -> ServingError:
    if isinstance(error, BackendError):
        return error
    return AdapterNotReady(f"adapter '{adapter.id}' could not be loaded: {error}")

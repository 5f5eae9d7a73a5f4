"""Makes one replica hold what SQL says it should, and tells SQL what it holds.

All of it follows from the rows and from what is loaded, so a replica that was killed at any moment
converges by starting. Knows no engine: slots are behind `Residency`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Protocol, Self

from serving.adapters.adapter import Adapter
from serving.adapters.residency import Residency
from serving.errors import ServingError
from serving.store.database import SqlFailed
from serving.store.residency import Desired, Report
from serving.types import AdapterId, TenantId

log = logging.getLogger("engram.adapters")

INTERVAL_S, HEARTBEAT_S, PRELOAD_S = 0.5, 4.0, 60.0


class Store(Protocol):
    def desired(self, resident: Collection[AdapterId]) -> Desired: ...

    def report(self, replica: str, held: Iterable[Report]) -> None: ...


class Adapters(Protocol):
    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        """The adapter's files on local disk."""
        ...


def replica_name() -> str:
    """Unique to this process, and of use to whoever looks for it."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class Reconciler:
    """Entering it loads the pinned adapters, or gives up on those that cannot be, and goes on."""

    def __init__(
        self,
        residency: Residency,
        store: Store,
        adapters: Adapters,
        replica: str,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._residency = residency
        self._store = store
        self._adapters = adapters
        self._replica = replica
        self._interval_s = interval_s
        self._promoted: frozenset[AdapterId] | None = None
        self._loads: dict[AdapterId, asyncio.Task[None]] = {}
        self._said: dict[AdapterId, str] = {}
        self._reported: tuple[float, object] = (0.0, ())
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._try_step()
        if self._loads:
            await asyncio.wait(tuple(self._loads.values()), timeout=PRELOAD_S)
            await self._try_step()  # says what is there now
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [*self._loads.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(SqlFailed):
            await asyncio.to_thread(self._store.report, self._replica, ())

    async def step(self) -> None:
        """Follows the rows once; loads go on after it returns."""
        known = self._residency.known
        desired = await asyncio.to_thread(self._store.desired, known)
        self._residency.pin(desired.pinned)
        for id in desired.gone:
            self._residency.retire(id)
        for id in set(known) - desired.gone:
            self._residency.restore(id)
        for id in self._missing(desired):
            self._loads[id] = asyncio.create_task(self._load(id))
        await self._report()

    def _missing(self, desired: Desired) -> list[AdapterId]:
        """The pinned, and what was promoted since the last step: its first user is near."""
        news = desired.promoted - (desired.promoted if self._promoted is None else self._promoted)
        is_first, self._promoted = self._promoted is None, desired.promoted
        room = self._residency.capacity if is_first else self._residency.capacity - 1
        wanted = dict.fromkeys([*desired.pinned[: max(0, room)], *sorted(news)])
        present = self._residency.states.keys() | self._loads.keys()
        return [id for id in wanted if id not in present and self._residency.capacity > 0]

    async def _load(self, id: AdapterId) -> None:
        tenant, _, version = id.rpartition("/")
        try:
            adapter = await self._adapters.get(TenantId(tenant), AdapterId(version))
            async with self._residency.lease(adapter):
                self._said.pop(id, None)
        except ServingError as error:
            if self._said.get(id) != error.message:
                self._said[id] = error.message
                log.warning("adapter %s is wanted here and cannot be loaded: %s", id, error.message)
        finally:
            del self._loads[id]

    async def _report(self) -> None:
        """At once when an adapter comes or goes, else now and then, for the counts."""
        held = self._residency.residents
        changed = tuple((one.adapter, one.state) for one in held)
        said_at, said = self._reported
        if changed == said and (not held or time.monotonic() - said_at < HEARTBEAT_S):
            return
        reports = [
            Report(one.adapter, one.state, one.leases, one.hits, one.load_ms) for one in held
        ]
        await asyncio.to_thread(self._store.report, self._replica, reports)
        self._reported = (time.monotonic(), changed)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._try_step()

    async def _try_step(self) -> None:
        try:
            await self.step()
        except SqlFailed as error:
            log.warning("adapters stay as they are while SQL is away: %s", type(error).__name__)
        except Exception:
            log.exception("adapters could not be reconciled")

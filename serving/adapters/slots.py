"""What residency asks of an engine, and what it tells of the adapters in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from serving.adapters.adapter import Adapter, AdapterState
from serving.types import AdapterId


class Slots(Protocol):
    """The engine's adapter slots; all return when the engine has done it, and may raise."""

    @property
    def at_hand(self) -> Collection[AdapterId]:
        """Those without a slot that it still has in memory."""
        ...

    async def load(self, adapter: Adapter) -> None: ...

    async def vacate(self, adapter_id: AdapterId) -> None:
        """Frees the slot; the adapter may stay at hand."""
        ...

    async def unload(self, adapter_id: AdapterId) -> None:
        """Frees the slot, and all memory."""
        ...


@dataclass(frozen=True, slots=True)
class Resident:
    """What there is to say of an adapter that holds a slot or waits for one."""

    adapter: AdapterId
    state: AdapterState
    leases: int
    hits: int  # leases that found it loaded
    load_ms: float | None

"""A bounded number of slots and the line for them, shared evenly among tenants.

A freed slot goes to the waiting tenant that holds fewest, of equals to each in turn; within a
tenant, to who came first. So a tenant that floods waits behind itself alone. Knows nothing of time,
limits or HTTP.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from serving.types import TenantId


class FairSlots:
    def __init__(self, count: int) -> None:
        self._count = count
        self._held: Counter[TenantId] = Counter()
        self._lines: dict[TenantId, deque[asyncio.Future[None]]] = {}
        self.running = 0
        self.waiting = 0

    async def acquire(self, tenant: TenantId) -> None:
        """Takes a slot, in turn.

        Raises:
            Exception: what `displace` was given, if another tenant needed the place in line.
        """
        if self.running < self._count:  # then nobody waits
            self._take(tenant)
            return
        turn = self._join(tenant)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(tenant)  # its turn came as it went away
            else:
                self._leave(tenant, turn)
            raise

    def release(self, tenant: TenantId) -> None:
        """Gives a slot back, or on to who is next."""
        self.running -= 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        while self._lines:
            following = min(self._lines, key=lambda waiting: self._held[waiting])
            turn = self._lines[following][0]
            self._leave(following, turn)
            if not turn.done():  # else it was cancelled a moment ago
                self._take(following)
                if following in self._lines:  # of equals it is now last
                    self._lines[following] = self._lines.pop(following)
                turn.set_result(None)
                return

    def has_precedence(self, tenant: TenantId) -> bool:
        """Whether one that waits has to make way, since its tenant has more than this one."""
        return self._heaviest(tenant) is not None

    def displace(self, tenant: TenantId, reason: Exception) -> bool:
        """Sends away who came last of the tenant with most, if this one has less; says whether."""
        while heaviest := self._heaviest(tenant):
            turn = self._lines[heaviest][-1]
            self._leave(heaviest, turn)
            if not turn.done():
                turn.set_exception(reason)
                return True
        return False

    def _heaviest(self, tenant: TenantId) -> TenantId | None:
        if not self._lines:
            return None
        heaviest = max(self._lines, key=self._weight)
        return heaviest if self._weight(heaviest) > self._weight(tenant) + 1 else None

    def _weight(self, tenant: TenantId) -> int:
        return self._held[tenant] + len(self._lines.get(tenant, ()))

    def _take(self, tenant: TenantId) -> None:
        self.running += 1
        self._held[tenant] += 1

    def _join(self, tenant: TenantId) -> asyncio.Future[None]:
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(turn)
        self.waiting += 1
        return turn

    def _leave(self, tenant: TenantId, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant)
        if line is None or turn not in line:  # it was taken out
            return
        line.remove(turn)
        self.waiting -= 1
        if not line:
            del self._lines[tenant]

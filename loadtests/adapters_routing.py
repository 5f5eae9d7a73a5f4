"""`python -m loadtests.adapters_routing`: does it pay to send a request where its adapter is?

A simulation of slots, no engine: it tells hit rates and balance as far as its assumptions hold, and
no times. Adapters are asked for by a Zipf law. A replica has LRU slots and gets a request per tick
on the average; a request lasts `LASTS` ticks. `any`: the least busy replica, as HAProxy does.
`one`: the replica that the adapter hashes to. `spread`: the least busy of the k replicas that it
hashes to, k by its share of the requests.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

LASTS = 8  # requests in flight at a replica on the average, at the load simulated
WARM_UP = 0.2  # of the requests, not counted

Choose = Callable[[int, Sequence["Replica"]], "Replica"]


@dataclass(eq=False)
class Replica:
    number: int
    slots: int
    held: OrderedDict[int, None] = field(default_factory=OrderedDict)
    ends: list[int] = field(default_factory=list)  # ticks at which its requests end
    served: int = 0

    def busy(self, now: int) -> int:
        self.ends = [end for end in self.ends if end > now]
        return len(self.ends)

    def take(self, adapter: int, now: int) -> bool:
        """Whether the adapter was there."""
        hit = adapter in self.held
        self.held[adapter] = None
        self.held.move_to_end(adapter)
        if len(self.held) > self.slots:
            self.held.popitem(last=False)
        self.ends.append(now + LASTS)
        self.served += 1
        return hit


def zipf(adapters: int, skew: float) -> list[float]:
    weights = [1 / rank**skew for rank in range(1, adapters + 1)]
    return [weight / sum(weights) for weight in weights]


def preferred(adapter: int, replicas: Sequence[Replica]) -> list[Replica]:
    """Replicas in the order in which an adapter would have them; the same everywhere."""

    def draw(replica: Replica) -> bytes:
        return blake2b(f"{adapter}/{replica.number}".encode(), digest_size=8).digest()

    return sorted(replicas, key=draw)


def simulate(
    policy: str, adapters: int, slots: int, replicas: int, requests: int, skew: float, seed: int = 0
) -> tuple[float, float]:
    """Hit rate, and the busiest replica's share of the requests over the mean."""
    chance, shares = random.Random(seed), zipf(adapters, skew)
    fleet = [Replica(number, slots) for number in range(replicas)]
    order = {adapter: preferred(adapter, fleet) for adapter in range(adapters)}
    spread = {
        "any": [replicas] * adapters,
        "one": [1] * adapters,
        "spread": [min(replicas, math.ceil(2 * share * replicas)) for share in shares],
    }[policy]
    asked = chance.choices(range(adapters), shares, k=requests)
    hits = counted = 0
    for number, adapter in enumerate(asked):
        now = number // replicas  # one request a tick and replica
        candidates = order[adapter][: spread[adapter]]
        least = min(replica.busy(now) for replica in candidates)
        chosen = chance.choice([one for one in candidates if one.busy(now) == least])
        hit = chosen.take(adapter, now)
        if number >= WARM_UP * requests:
            hits, counted = hits + hit, counted + 1
    mean = requests / replicas
    return hits / counted, max(replica.served for replica in fleet) / mean


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.adapters_routing")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--skew", type=float, default=1.1)
    chosen = parser.parse_args()
    print("| adapters ÷ slots | hits any | one | spread | imbalance any | one | spread |")
    print("|---|---|---|---|---|---|---|")
    for ratio in (0.5, 1, 1.5, 2, 4, 8, 16):
        count = max(1, int(ratio * chosen.slots))
        found = [
            simulate(policy, count, chosen.slots, chosen.replicas, chosen.requests, chosen.skew)
            for policy in ("any", "one", "spread")
        ]
        rates = [f"{100 * rate:.1f} %" for rate, _ in found]
        balance = [f"{over:.2f}" for _, over in found]
        print(f"| {ratio:g} | " + " | ".join(rates + balance) + " |")


if __name__ == "__main__":
    main()

"""`python -m loadtests.adapters`: more adapters than slots under load, on the real engine.

`churn` asks a whole gateway for 40 adapters, each of which answers with its own name, through 4
slots. `bystanders` measures what a cold load does to the streams beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from loadtests import adapters_bystanders, adapters_churn

logger = logging.getLogger("engram.adapters")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.adapters", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("churn", "bystanders"), default="churn")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long `churn` runs")
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5, help="turns of `bystanders`")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.part == "bystanders":
            return asyncio.run(adapters_bystanders.measure(Path(folder), chosen.repeats))
        options = adapters_churn.Options(
            chosen.adapters, chosen.slots, chosen.clients, chosen.minutes
        )
        return asyncio.run(adapters_churn.run(Path(folder), options))


if __name__ == "__main__":
    sys.exit(main())

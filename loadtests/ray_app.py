"""Runs one Ray Serve application in a Ray of its own until it is told to end."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable

import ray
from ray import serve
from ray.serve.config import HTTPOptions


def main(about: str | None, build: Callable[[], serve.Application]) -> None:
    """The command of an arm that Ray serves."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--temp", required=True, help="folder for Ray's sockets and logs")
    given = parser.parse_args()
    _serve_until_told(build, given.port, given.temp)


def _serve_until_told(build: Callable[[], serve.Application], port: int, temp: str) -> None:
    """Serves on 127.0.0.1:`port` until SIGINT or SIGTERM; Ray keeps sockets and logs in `temp`.

    Some builders ask Ray what it has, so `build` is called when it runs.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray reports to its makers
    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=temp,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
        serve.run(build(), name="relay", blocking=True)
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()
        ray.shutdown()

"""The Ray Serve application: which replicas there are and who calls whom.

On Kubernetes, `serving.deployments.application:from_environment` is the RayService's `importPath`;
on one machine `head.py` runs it.
"""

from __future__ import annotations

from typing import Any

from ray import serve

from serving.deployments.finetune import FineTuneReplica
from serving.deployments.gateway import GatewayReplica
from serving.deployments.ingest import IngestReplica
from serving.deployments.retriever import RetrieverReplica
from serving.retrieval.shard import Shard
from serving.settings import Settings, load

NAME = "engram"


def application(settings: Settings) -> serve.Application:
    """A gateway replica per engine, all calling the same retriever replicas; workers beside."""
    engine, server = settings.engine, settings.server
    gateway = _deployment(
        GatewayReplica,
        name="gateway",
        num_replicas=server.gateway_replicas,
        graceful_shutdown_timeout_s=30,  # answers in flight are finished
        ray_actor_options={
            "num_gpus": engine.tensor_parallel_size if engine.device == "gpu" else 0,
            "runtime_env": _environment(settings, engine.cpu_threads),
        },
    )
    ingest = _deployment(
        IngestReplica,
        name="ingest",
        num_replicas=server.ingest_workers,
        graceful_shutdown_timeout_s=10,
        ray_actor_options={"runtime_env": _environment(settings, settings.retrieval.threads)},
    )
    return gateway.bind(
        settings, _retrievers(settings), ingest.bind(settings), *_finetune(settings)
    )


def _finetune(settings: Settings) -> list[Any]:
    """None where nothing is to be trained."""
    if not settings.server.finetune_workers:
        return []
    return [
        _deployment(
            FineTuneReplica,
            name="finetune",
            num_replicas=settings.server.finetune_workers,
            graceful_shutdown_timeout_s=30,  # for a checkpoint
            ray_actor_options={"runtime_env": _environment(settings, settings.finetune.threads)},
        ).bind(settings)
    ]


def _retrievers(settings: Settings) -> list[Any]:
    """One deployment per shard, since a call must reach a replica of its own shard."""
    shards = settings.retrieval.shards
    return [
        _deployment(
            RetrieverReplica,
            name="retriever" if shards == 1 else f"retriever-{number}",
            num_replicas=settings.server.retriever_replicas,
            graceful_shutdown_timeout_s=10,
            ray_actor_options={
                # A replica that has none sees none: its indexes are on the CPU.
                "num_gpus": settings.retrieval.gpus,
                "runtime_env": _environment(settings, settings.retrieval.threads),
            },
        ).bind(settings, Shard(number, shards))
        for number in range(shards)
    ]


def _deployment(replica: type, **options: Any) -> Any:
    return serve.deployment(
        # Far above what admission lets in: overload must be answered by it, with Retry-After.
        max_ongoing_requests=100_000,
        health_check_period_s=2,
        health_check_timeout_s=20,  # a large ingest or a LoRA load may hold a replica for seconds
        graceful_shutdown_wait_loop_s=0.1,
        max_constructor_retry_count=2,
        **options,
    )(replica)


def _environment(settings: Settings, threads: int) -> dict[str, dict[str, str]]:
    """What a replica's libraries must find before they are imported; Ray's own stay without it."""
    return {
        "env_vars": {
            "PROMETHEUS_MULTIPROC_DIR": str(settings.metrics),
            "OMP_NUM_THREADS": str(threads),
        }
    }


def from_environment(_args: dict[str, str]) -> serve.Application:
    """The builder that `serve deploy` calls; settings come from `ENGRAM_…`."""
    return application(load())

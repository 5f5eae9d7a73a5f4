"""The Ray Serve application: which replicas there are and who calls whom.

On Kubernetes, `serving.deployments.application:from_environment` is the RayService's `importPath`;
on one machine `head.py` runs it.
"""

from __future__ import annotations

from ray import serve

from serving.deployments.gateway import GatewayReplica
from serving.deployments.retriever import RetrieverReplica
from serving.settings import Settings, load

NAME = "engram"


def application(settings: Settings) -> serve.Application:
    """A gateway replica per engine, all calling the same retriever replicas."""
    engine, server = settings.engine, settings.server
    gpus = engine.tensor_parallel_size if engine.device == "gpu" else 0
    retriever = RetrieverReplica.options(
        num_replicas=server.retriever_replicas,
        ray_actor_options={"runtime_env": _environment(settings, settings.retrieval.threads)},
    )
    gateway = GatewayReplica.options(
        num_replicas=server.gateway_replicas,
        ray_actor_options={
            "num_gpus": gpus,
            "runtime_env": _environment(settings, engine.cpu_threads),
        },
    )
    return gateway.bind(settings, retriever.bind(settings))


def _environment(settings: Settings, threads: int) -> dict[str, dict[str, str]]:
    """What a replica's libraries must find before they are imported; Ray's own stay without it."""
    return {
        "env_vars": {
            "PROMETHEUS_MULTIPROC_DIR": str(settings.metrics),
            "OMP_NUM_THREADS": str(threads),
        }
    }


def from_environment(args: dict[str, str]) -> serve.Application:
    """The builder that `serve deploy` calls; settings come from `ENGRAM_…`, `args` stay empty."""
    return application(load())

"""Ray Serve LLM's default app for OpenAI clients: an ingress deployment that calls an engine's.

Ray's defaults, except for how many requests a replica takes at once. Started by `arms/`, never by
hand.
"""

from __future__ import annotations

from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

from loadtests.ray_app import main
from serving.generation.vllm_arguments import engine_arguments
from serving.settings import EngineSettings, load

_AT_ONCE = 256


def application(settings: EngineSettings) -> serve.Application:
    """The engine arguments that are Serve LLM's own to choose are left to it."""
    arguments = engine_arguments(settings)
    for its_own in ("model", "served_model_name", "distributed_executor_backend"):
        arguments.pop(its_own, None)
    config = LLMConfig(
        model_loading_config={"model_id": settings.served_name, "model_source": settings.model},
        engine_kwargs=arguments,
        accelerator_config={"kind": settings.device},
        deployment_config={"num_replicas": 1, "max_ongoing_requests": _AT_ONCE},
    )
    ingress = {"num_replicas": 1, "max_ongoing_requests": _AT_ONCE}
    return build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress})


if __name__ == "__main__":
    main(__doc__, lambda: application(load().engine))

"""Engine settings as vLLM's arguments and the environment variables it reads when imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.adapters.validation import RANKS
from serving.settings import EngineSettings, SettingsError


def environment(settings: EngineSettings) -> Mapping[str, str]:
    """What must be set before vLLM is imported."""
    common = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    if settings.device == "gpu":
        return common
    cpu = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else a third process spins
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound threads fight with the gateway's
        "OMP_NUM_THREADS": str(settings.cpu_threads),
        # oneDNN keeps what it compiles for each number of tokens in a step, up to half a MiB a
        # matrix: 1024 of them by default in vLLM, in torch, and again in torch's own cache.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "LRU_CACHE_CAPACITY": "128",
    }
    if settings.max_loras > 0:  # vLLM compiles no model then, yet its sampler: 8 s in a request
        cpu["TORCHDYNAMO_DISABLE"] = "1"
    return common | cpu


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`; `extra_args` win."""
    if settings.max_lora_rank not in RANKS:
        allowed = ", ".join(str(rank) for rank in RANKS)
        raise SettingsError(
            f"engine.max_lora_rank is {settings.max_lora_rank}; vLLM takes {allowed}"
        )
    common = {
        "model": settings.model,
        "served_model_name": settings.served_name,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_lora": settings.max_loras > 0,
        "max_loras": max(1, settings.max_loras),
        # So many that vLLM evicts none by itself: residency and `vacate` decide.
        "max_cpu_loras": max(1, settings.max_loras) + settings.host_loras,
        "max_lora_rank": settings.max_lora_rank,
        "enable_prefix_caching": True,
        # Else a small model may fill its answer with the blanks that JSON allows anywhere.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "reasoning_parser": settings.reasoning_parser or "",
    }
    by_device = _gpu_arguments(settings) if settings.device == "gpu" else _cpu_arguments(settings)
    return common | by_device | settings.extra_args


def own_worker(settings: EngineSettings) -> dict[str, Any]:
    """The further argument for an engine inside Engram; vLLM's own server keeps vLLM's worker."""
    executor = settings.extra_args.get("distributed_executor_backend", "uni")
    if settings.device == "gpu" or executor != "uni":
        return {}  # several processes do talk to each other
    return {"worker_cls": "serving.generation.cpu_worker.OneDeviceWorker"}


def _gpu_arguments(settings: EngineSettings) -> dict[str, Any]:
    return {
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "tensor_parallel_size": settings.tensor_parallel_size,
    }


def _cpu_arguments(settings: EngineSettings) -> dict[str, Any]:
    return {
        "distributed_executor_backend": "uni",
        "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
        "dtype": "bfloat16",
    }

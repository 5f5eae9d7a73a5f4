"""A vLLM worker that loads no weights and computes nothing: one token per request and step.

vLLM's own front end, scheduler and detokenizer run around it, the same in every arm, so that what
a benchmark sees is the serving and not the model. vLLM imports it by the name in
`scripted_worker.py`, in the process of its core.
"""

from __future__ import annotations

import time

import torch
from vllm.lora.request import LoRARequest
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from loadtests.scripted_worker import words


class ScriptedWorker(WorkerBase):  # type: ignore[misc]  # vLLM has no types here
    """Answers every request with the same words, at the pace that `additional_config` states."""

    def init_device(self) -> None:
        script = self.vllm_config.additional_config
        self._itl_s = float(script["itl_s"])
        self._prefill_s_per_token = float(script["prefill_s_per_token"])
        self._prompt_tokens: dict[str, int] = {}
        self._ended_at = 0.0
        self._loras: set[int] = set()

    def load_model(self, *, load_dummy_weights: bool = False) -> None:  # noqa: ARG002 vLLM names it
        self._words = words(cached_tokenizer_from_config(self.model_config))

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        """One layer of one byte per key and value: vLLM keeps its books, nothing is stored."""
        block_size = self.cache_config.block_size
        spec = FullAttentionSpec(
            block_size=block_size, num_kv_heads=1, head_size=1, dtype=torch.int8
        )
        return {"model.layers.0": spec}

    def determine_available_memory(self) -> int:
        """Bytes for every sequence at its longest; two per token, by the spec."""
        return 2 * int(self.model_config.max_model_len * self.scheduler_config.max_num_seqs)

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        pass

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(language_model=0.0, encoder=0.0)

    def add_lora(self, lora_request: LoRARequest) -> bool:
        """Adapters change no answer, but requests may name them."""
        self._loras.add(lora_request.lora_int_id)
        return True

    def remove_lora(self, lora_id: int) -> bool:
        self._loras.discard(lora_id)
        return True

    def list_loras(self) -> set[int]:
        return self._loras

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput:
        """Called by vLLM once per step. Sleeps until the step is due to end."""
        self._forget(scheduler_output)
        sampled = self._sample(scheduler_output)
        self._pass_time(scheduler_output)
        ids = list(sampled)
        return ModelRunnerOutput(ids, {id_: n for n, id_ in enumerate(ids)}, list(sampled.values()))

    def _forget(self, step: SchedulerOutput) -> None:
        for request_id in step.finished_req_ids:
            self._prompt_tokens.pop(request_id, None)

    def _sample(self, step: SchedulerOutput) -> dict[str, list[int]]:
        """By request, the next word, or none while its prompt is not read to the end."""
        sampled: dict[str, list[int]] = {}
        for new in step.scheduled_new_reqs:
            self._prompt_tokens[new.req_id] = new.prompt_len
            read = new.num_computed_tokens + step.num_scheduled_tokens[new.req_id]
            sampled[new.req_id] = self._next(new.req_id, read, 0)
        old = step.scheduled_cached_reqs
        positions = zip(old.req_ids, old.num_computed_tokens, old.num_output_tokens, strict=True)
        for request_id, computed, written in positions:
            read = computed + step.num_scheduled_tokens[request_id]
            sampled[request_id] = self._next(request_id, read, written)
        return sampled

    def _next(self, request_id: str, read: int, written: int) -> list[int]:
        if read < self._prompt_tokens[request_id] + written:
            return []
        return [self._words[written % len(self._words)]]

    def _pass_time(self, step: SchedulerOutput) -> None:
        """A step among others begins when the last one ended, so that scheduling is not added."""
        is_running = bool(step.scheduled_cached_reqs.req_ids)
        began = self._ended_at if is_running else time.perf_counter()
        prefill_tokens = step.total_num_scheduled_tokens - len(step.num_scheduled_tokens)
        due = began + self._itl_s + self._prefill_s_per_token * prefill_tokens
        time.sleep(max(0.0, due - time.perf_counter()))
        self._ended_at = max(due, time.perf_counter())

"""A vLLM whose model is scripted: its settings, and the words of every answer.

Apart from `scripted_model.py`, so that a load generator need not import vLLM.
"""

from __future__ import annotations

from typing import Any

from serving.settings import EngineSettings

WORKER = "loadtests.scripted_model.ScriptedWorker"
_MAX_MODEL_LEN = 131_072  # a body of 220 KB fits
_BLOCK_SIZE = 128  # of vLLM's CPU backend for the demo model
_WORDS = 64  # different tokens in an answer before it repeats
_MAX_BATCHED_TOKENS = 2**20  # prompts are read in one step, however many arrive together


def scripted(
    itl_s: float = 0.005,
    prefill_s_per_token: float = 0.0,
    max_model_len: int = _MAX_MODEL_LEN,
    **changes: Any,
) -> EngineSettings:
    """The demo model's tokenizer and template before a model that costs nothing.

    A step takes `itl_s`, and `prefill_s_per_token` for every prompt token in it beyond the first
    of each request; tokens that vLLM finds in its prefix cache are not in it. `changes` are further
    fields of `EngineSettings`.
    """
    arguments = {
        "worker_cls": WORKER,
        "additional_config": {"itl_s": itl_s, "prefill_s_per_token": prefill_s_per_token},
        "hf_overrides": {"max_position_embeddings": max_model_len},
        "block_size": _BLOCK_SIZE,
        "max_num_batched_tokens": _MAX_BATCHED_TOKENS,
        "enforce_eager": True,
    }
    given: dict[str, Any] = {"max_num_seqs": 256, "kv_cache_gib": 0.0} | changes
    extra = {**arguments, **given.pop("extra_args", {})}
    return EngineSettings(max_model_len=max_model_len, extra_args=extra, **given)


def words(tokenizer: Any) -> list[int]:
    """The ids of the tokenizer's first tokens that are a blank and a word.

    Raises:
        ValueError: it has too few.
    """
    found: list[int] = []
    for token_id in range(len(tokenizer)):
        text = tokenizer.decode([token_id])
        if _is_word(text):
            found.append(token_id)
        if len(found) == _WORDS:
            return found
    raise ValueError(f"the tokenizer has {len(found)} tokens that are words; {_WORDS} are needed")


def _is_word(text: str) -> bool:
    letters = text[1:]
    return (
        text[0:1] == " "
        and len(letters) > 2
        and letters.isascii()
        and letters.islower()
        and letters.isalpha()
    )

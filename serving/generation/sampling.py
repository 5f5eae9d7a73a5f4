"""Which sampling fields exist and what values they take; both engines refuse the same.

Checked before anything else, so that a bad request costs nothing and names its field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.errors import InvalidRequest, PromptTooLong, unknown_field
from serving.types import Prompt

RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 10),
}
COUNTS: Mapping[str, tuple[int, int]] = {
    "n": (1, 8),
    "max_tokens": (1, 2**31),
    "max_completion_tokens": (1, 2**31),
    "min_tokens": (0, 2**31),
    "top_k": (-1, 2**31),
    "top_logprobs": (0, 20),
    "best_of": (1, 1),
    "seed": (-(2**63), 2**63 - 1),
}
SHAPED = frozenset(
    {
        "stop",
        "logprobs",
        "logit_bias",
        "response_format",
        "ignore_eos",
        "stop_token_ids",
        "bad_words",
        "skip_special_tokens",
        "include_stop_str_in_output",
        "spaces_between_special_tokens",
        "structured_outputs",
        "allowed_token_ids",
        "length_penalty",
    }
)
CHAT_ONLY = frozenset(
    {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "include_reasoning",
        "chat_template_kwargs",
        "top_logprobs",
        "max_completion_tokens",
    }
)
# About the response or the account, not about sampling.
IGNORED = frozenset(
    {
        "best_of",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "verbosity",
        "prompt_cache_retention",
    }
)
UNSUPPORTED = frozenset(
    {
        "echo",
        "suffix",
        "functions",
        "function_call",
        "audio",
        "modalities",
        "prediction",
        "web_search_options",
        "use_beam_search",
    }
)
FIELDS = frozenset(RANGES) | frozenset(COUNTS) | SHAPED | CHAT_ONLY | IGNORED
# Each is looked through for every token.
LISTS = frozenset({"bad_words", "stop_token_ids", "allowed_token_ids", "logit_bias"})
MAX_ENTRIES, MAX_STOPS, MAX_STOP_CHARS = 1024, 16, 256


def check(prompt: Prompt) -> dict[str, Any]:
    """The fields that bear on sampling, without those left at null.

    Raises:
        InvalidRequest: a field is unknown, unsupported or out of range; `param` names it.
    """
    given = {name: value for name, value in prompt.sampling.items() if value is not None}
    for name, value in given.items():
        _check_known(name, value, prompt)
        if name in RANGES:
            _check_number(name, value, *RANGES[name])
        if name in COUNTS:
            _check_number(name, value, *COUNTS[name], whole=True)
        if name in LISTS and isinstance(value, list | dict) and len(value) > MAX_ENTRIES:
            raise InvalidRequest(f"{name} holds more than {MAX_ENTRIES} entries", param=name)
    stops(given)
    kept = {name: value for name, value in given.items() if name not in IGNORED | UNSUPPORTED}
    if kept.get("max_completion_tokens") is not None:
        kept["max_tokens"] = kept.pop("max_completion_tokens")
    return kept


def stops(sampling: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop strings, given as one string or a list of them."""
    stop = sampling.get("stop") or ()
    strings = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop
    if not isinstance(strings, tuple) or not all(isinstance(s, str) and s for s in strings):
        raise InvalidRequest("stop must be a non-empty string or a list of them", param="stop")
    if len(strings) > MAX_STOPS or any(len(s) > MAX_STOP_CHARS for s in strings):
        what = f"at most {MAX_STOPS} strings of {MAX_STOP_CHARS} characters"
        raise InvalidRequest(f"stop takes {what}", param="stop")
    return strings


def _check_known(name: str, value: Any, prompt: Prompt) -> None:
    if name in UNSUPPORTED:
        if value:
            raise InvalidRequest(f"'{name}' is not supported", param=name)
    elif name not in FIELDS:
        raise unknown_field(name, FIELDS)
    elif name in CHAT_ONLY and not prompt.messages:
        raise InvalidRequest(f"'{name}' does not apply to a plain completion", param=name)


def _check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise InvalidRequest(f"{name} must be {what} from {low} to {high}", param=name)


def answer_budget(prompt_tokens: int, asked: int | None, max_model_len: int) -> int:
    """How many tokens the answer may take: what was asked for, else what remains.

    Raises:
        PromptTooLong: prompt and answer do not fit; the message states every length.
    """
    remaining = max_model_len - prompt_tokens
    if remaining >= (asked or 1):
        return asked or remaining
    answer = f", the answer may take {asked}" if asked else ""
    raise PromptTooLong(
        f"prompt has {prompt_tokens} tokens{answer}, but the model's context is {max_model_len}",
        param="messages",
    )

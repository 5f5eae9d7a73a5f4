from __future__ import annotations

from typing import Any

import pytest

from serving.errors import InvalidRequest, PromptTooLong
from serving.generation.sampling import FIELDS, UNSUPPORTED, answer_budget, check, stops
from serving.types import Prompt

MESSAGES = ({"role": "user", "content": "Hello"},)


def chat(**sampling: Any) -> Prompt:
    return Prompt("test", MESSAGES, sampling)


def test_fields_that_do_not_bear_on_sampling_are_dropped() -> None:
    sampling = {"stream": True, "user": "someone", "temperature": 0.5, "top_p": None, "seed": 3}
    assert check(chat(**sampling)) == {"temperature": 0.5, "seed": 3}


def test_max_completion_tokens_is_the_newer_name_of_max_tokens() -> None:
    assert check(chat(max_completion_tokens=7)) == {"max_tokens": 7}
    assert check(chat(max_completion_tokens=7, max_tokens=9)) == {"max_tokens": 7}


@pytest.mark.parametrize("value", [-0.1, 2.1, "1", True, float("nan")])
def test_a_number_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="temperature must be a number from 0 to 2"):
        check(chat(temperature=value))


@pytest.mark.parametrize("value", [0, 9, 1.5, True])
def test_a_count_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="n must be a whole number from 1 to 8"):
        check(chat(n=value))


def test_a_misspelt_field_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'temperature'"):
        check(chat(temprature=1))


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_what_is_not_supported_is_refused_only_when_it_is_asked_for(name: str) -> None:
    assert check(chat(**{name: False})) == {}
    with pytest.raises(InvalidRequest, match=f"'{name}' is not supported") as refusal:
        check(chat(**{name: "yes"}))
    assert refusal.value.param == name


def test_chat_fields_do_not_apply_to_a_completion() -> None:
    with pytest.raises(InvalidRequest, match="does not apply to a plain completion"):
        check(Prompt("test", (), {"tools": [{}]}, "Once upon"))


def test_no_field_is_both_known_and_unsupported() -> None:
    assert not FIELDS & UNSUPPORTED


@pytest.mark.parametrize(("stop", "strings"), [("a", ("a",)), (["a", "b"], ("a", "b")), (None, ())])
def test_stop_is_a_string_or_a_list(stop: Any, strings: tuple[str, ...]) -> None:
    assert stops({"stop": stop}) == strings


@pytest.mark.parametrize(
    ("prompt_tokens", "asked", "budget"), [(100, None, 924), (100, 50, 50), (1000, 24, 24)]
)
def test_the_answer_gets_what_was_asked_or_what_remains(
    prompt_tokens: int, asked: int | None, budget: int
) -> None:
    assert answer_budget(prompt_tokens, asked, 1024) == budget


def test_a_refusal_for_length_states_every_length() -> None:
    with pytest.raises(PromptTooLong) as refusal:
        answer_budget(1310, 200, 1024)
    assert refusal.value.message == (
        "prompt has 1310 tokens, the answer may take 200, but the model's context is 1024"
    )
    with pytest.raises(PromptTooLong, match="prompt has 1024 tokens, but the model's context is"):
        answer_budget(1024, None, 1024)

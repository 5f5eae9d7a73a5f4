from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from serving.errors import InvalidRequest
from serving.routing.rollout import (
    assign,
    check_shares,
    choose,
    moved,
    shares,
    stand_ins,
    sticky_key,
    with_history,
)
from serving.types import AdapterId, Assistant, Fallback, Question, TenantId

V3, V4, V5 = (AdapterId(f"helpdesk@{number}") for number in (3, 4, 5))
KEYS = [f"user:{number}" for number in range(20_000)]


def assistant(rollout: dict[AdapterId, float], **fields: Any) -> Assistant:
    return Assistant("helpdesk", TenantId("acme"), rollout=rollout, **fields)


def choices(rollout: dict[AdapterId, float]) -> list[AdapterId | None]:
    return [choose(assistant(rollout), key) for key in KEYS]


def question(*turns: str, **fields: Any) -> Question:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return Question("req-1", "helpdesk", tuple(messages), {}, **fields)


def test_shares_are_kept_within_chance() -> None:
    counts = Counter(choices({V3: 0.9, V4: 0.1}))
    deviation = (20_000 * 0.9 * 0.1) ** 0.5
    assert abs(counts[V4] - 2_000) < 4 * deviation
    assert set(counts) == {V3, V4}


def test_raising_a_share_moves_only_those_it_needs_and_only_to_the_raised() -> None:
    before, after = choices({V3: 0.95, V4: 0.05}), choices({V3: 0.9, V4: 0.1})
    moves = Counter((a, b) for a, b in zip(before, after, strict=True) if a != b)
    assert set(moves) == {(V3, V4)}
    assert abs(moves[V3, V4] - 1_000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5


def test_a_third_version_takes_from_both_and_moves_nobody_between_them() -> None:
    before = choices({V3: 0.5, V4: 0.5})
    after = choices({V3: 0.4, V4: 0.4, V5: 0.2})
    moves = {(a, b) for a, b in zip(before, after, strict=True) if a != b}
    assert moves == {(V3, V5), (V4, V5)}


def test_a_version_without_a_share_gets_nobody_and_the_only_one_everybody() -> None:
    assert set(choices({V3: 1.0, V4: 0.0})) == {V3}
    assert set(choices({V4: 1.0})) == {V4}


def test_the_same_users_are_not_the_first_everywhere() -> None:
    canary = {V3: 0.9, V4: 0.1}
    one = {key for key in KEYS if choose(assistant(canary), key) == V4}
    other = {key for key in KEYS if choose(replace(assistant(canary), name="billing"), key) == V4}
    assert len(one & other) < 0.2 * len(one)


def test_the_key_is_what_the_request_calls_it_or_how_the_conversation_began() -> None:
    assert sticky_key(question("Hi", conversation="user:7")) == "user:7"
    assert sticky_key(question("Hi")) == sticky_key(question("Hi", "Hello!", "And then?"))
    assert sticky_key(question("Hi")) != sticky_key(question("Good morning"))
    plain = Question("req-1", "helpdesk", (), {}, completion_prompt="Once")
    assert sticky_key(plain) != sticky_key(replace(plain, completion_prompt="Twice"))


def test_without_a_rollout_the_adapter_answers() -> None:
    fixed = assistant({}, adapter=V3)
    assert assign(fixed, question("Hi")) is fixed
    assert choose(fixed, "x") == V3
    assert assign(assistant({V4: 1.0}, adapter=V3), question("Hi")).adapter == V4


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [(Fallback.ERROR, []), (Fallback.BASE, [None]), (Fallback.PREVIOUS, [V3, "helpdesk@2"])],
)
def test_who_may_stand_in(fallback: Fallback, expected: list[AdapterId | None]) -> None:
    canary = assistant({V3: 0.9, V4: 0.1}, previous_rollout={V3: 1.0}, adapter_fallback=fallback)
    assert stand_ins(canary, V4, "user:1")[:2] == expected


def test_a_fixed_version_falls_back_to_those_before_it() -> None:
    fixed = assistant({}, adapter=V3, adapter_fallback=Fallback.PREVIOUS)
    assert stand_ins(fixed, V3, "user:1") == ["helpdesk@2", "helpdesk@1"]
    assert stand_ins(fixed, AdapterId("helpdesk"), "user:1") == []


def test_a_move_can_be_taken_back() -> None:
    fixed = assistant({}, adapter=V3)
    canary = moved(fixed, {V3: 0.9, V4: 0.1})
    assert canary.previous_rollout == {V3: 1.0}
    assert moved(canary, {V3: 0.9, V4: 0.1}) is canary
    assert shares(moved(canary, {V3: 1.0})) == {V3: 1.0}


def test_replacing_an_assistant_keeps_the_way_back() -> None:
    old, new = assistant({}, adapter=V3), assistant({}, adapter=V4)
    assert with_history(old, new).previous_rollout == {V3: 1.0}
    reworded = replace(old, instructions="Be brief.")
    canary = moved(old, {V3: 0.9, V4: 0.1})
    assert with_history(old, reworded).previous_rollout is None
    renamed = replace(canary, previous_rollout=None, instructions="Be brief.")
    assert with_history(canary, renamed).previous_rollout == {V3: 1.0}
    assert with_history(None, new) is new


def test_one_that_is_read_changed_and_written_goes_back_to_what_was_there() -> None:
    canary = moved(assistant({}, adapter=V3), {V3: 0.9, V4: 0.1})
    written = replace(canary, rollout={V5: 1.0})  # with what the canary could go back to
    assert with_history(canary, written).previous_rollout == canary.rollout
    meant = replace(written, previous_rollout={V4: 1.0})
    assert with_history(canary, meant) is meant


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({V3: 0.9, V4: 0.2}, "add up to 1, these to 1.1"),
        ({V3: 0.0}, "add up to 1, these to 0"),
        ({V3: -0.5, V4: 1.5}, "between 0 and 1, not -0.5"),
        ({V3: float("nan")}, "between 0 and 1"),
        ({AdapterId(f"a@{n}"): 1 / 17 for n in range(17)}, "at most 16 versions"),
    ],
)
def test_shares_that_make_no_rollout_are_refused(
    rollout: dict[AdapterId, float], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_shares(rollout)

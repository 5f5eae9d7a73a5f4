from __future__ import annotations

import random
from collections.abc import Sequence

from serving.generation.passage_order import Order, PassageOrder
from serving.generation.prompt import PromptBuilder
from serving.generation.scripted_engine import ScriptedEngine
from serving.types import Assistant, Passage, Question, TenantId

ACME, OTHER = ("acme", "You help."), ("other", "You help.")


def passages(names: str) -> list[Passage]:
    return [Passage(name, f"text of {name}", f"{name}.md") for name in names]


def names(ordered: Sequence[Passage]) -> str:
    return "".join(passage.id for passage in ordered)


def test_passages_stay_by_relevance_until_a_prompt_began_with_one() -> None:
    order = PassageOrder()
    assert names(order(ACME, passages("cab"))) == "cab"
    assert names(order(ACME, passages("xy"))) == "xy"
    assert names(order(ACME, passages("ab"))) == "ab"  # neither was first


def test_the_same_passages_come_in_the_same_order_whatever_their_ranks() -> None:
    order = PassageOrder()
    order(ACME, passages("cab"))
    assert names(order(ACME, passages("abc"))) == "cab"
    assert names(order(ACME, passages("bca"))) == "cab"


def test_the_longest_beginning_wins_and_the_rest_follows_by_relevance() -> None:
    order = PassageOrder()
    order(ACME, passages("a"))
    order(ACME, passages("bcd"))
    assert names(order(ACME, passages("aecxb"))) == "bcaex"


def test_of_equal_beginnings_the_more_relevant_passage_comes_first() -> None:
    order = PassageOrder()
    order(ACME, passages("a"))
    order(ACME, passages("b"))
    assert names(order(ACME, passages("xba"))) == "bxa"


def test_what_stands_before_the_passages_keeps_orders_apart() -> None:
    order = PassageOrder()
    order(ACME, passages("ba"))
    assert names(order(OTHER, passages("ab"))) == "ab"
    assert names(order(ACME, passages("ab"))) == "ba"


def test_a_passage_whose_text_has_changed_is_another() -> None:
    order = PassageOrder()
    order(ACME, [Passage("b", "old", "b.md"), *passages("a")])
    assert names(order(ACME, [*passages("a"), Passage("b", "new", "b.md")])) == "ab"


def test_the_beginnings_that_were_not_used_for_long_are_forgotten() -> None:
    order = PassageOrder(max_beginnings=4)
    order(ACME, passages("ba"))
    order(ACME, passages("dc"))
    assert names(order(ACME, passages("ab"))) == "ba"
    order(ACME, passages("fe"))  # forgets d and c
    assert names(order(ACME, passages("cd"))) == "cd"


def test_every_passage_stays_however_many_orders_are_known() -> None:
    order = PassageOrder()
    chance = random.Random(1)
    ten = passages("abcdefghij")
    for count in range(1, 4):
        for _ in range(500):
            order(ACME, chance.sample(ten, count))
    assert sorted(names(order(ACME, ten))) == sorted(names(ten))
    assert order(ACME, []) == ()


def test_a_skewed_workload_shares_more_than_by_relevance() -> None:
    chance = random.Random(2)
    popular = [rank**-1.0 for rank in range(1, 27)]
    workload = [
        list(dict.fromkeys(chance.choices("abcdefghijklmnopqrstuvwxyz", popular, k=6)))[:3]
        for _ in range(1000)
    ]
    by_relevance = computed(lambda _, given: tuple(given), workload)
    assert computed(PassageOrder(), workload) < 0.7 * by_relevance


def computed(order: Order, workload: Sequence[Sequence[str]]) -> int:
    """Passages that no earlier prompt has had at this place behind the same others."""
    seen: set[str] = set()
    for asked in workload:
        prompt = names(order(ACME, passages("".join(asked))))
        seen |= {prompt[:end] for end in range(1, len(prompt) + 1)}
    return len(seen)


def test_the_least_relevant_passage_is_dropped_not_the_last_in_order() -> None:
    builder = PromptBuilder(ScriptedEngine(max_model_len=200), order=PassageOrder())
    assistant = Assistant("helpdesk", TenantId("t"))
    asked = Question("r", "helpdesk", ({"role": "user", "content": "Hi"},), {"max_tokens": 10})
    known, best = Passage("k", "known " * 100, "k.md"), Passage("b", "best " * 60, "b.md")
    assert names(builder.build(assistant, asked, [known]).passages) == "k"
    prompt = builder.build(assistant, asked, [best, known])
    assert names(prompt.passages) == "b"
    assert "[1] b.md: best" in prompt.messages[0]["content"]


def test_numbers_in_the_prompt_are_places_in_the_prompts_passages() -> None:
    builder = PromptBuilder(ScriptedEngine(max_model_len=2000), order=PassageOrder())
    assistant = Assistant("helpdesk", TenantId("t"))
    asked = Question("r", "helpdesk", ({"role": "user", "content": "Hi"},), {})
    builder.build(assistant, asked, passages("ba"))
    prompt = builder.build(assistant, asked, passages("abc"))
    assert names(prompt.passages) == "bac"
    lines = prompt.messages[0]["content"].splitlines()[-3:]
    assert lines == [f"[{n}] {p.filename}: {p.text}" for n, p in enumerate(prompt.passages, 1)]

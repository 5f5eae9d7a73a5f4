"""The prompt benchmark: its requests, its statistics, and its counts against what vLLM must do."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from loadtests.prompt_order import CASES, computed_tokens
from loadtests.prompt_popularity import ByPopularity
from loadtests.prompt_report import Answered, Computed, changed, difference, markdown, values
from loadtests.prompt_workload import Workload, zipf
from serving.types import Passage, Usage

DEMO = CASES[0]


def passages(names: str) -> list[Passage]:
    return [Passage(name, name, name) for name in names]


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Over two small files."""
    folder = tmp_path_factory.mktemp("company")
    (folder / "leave.md").write_text("# Leave\n\nAnnual leave is 27 days a year.\n")
    (folder / "rooms.md").write_text("# Rooms\n\nThe largest room is called Heron.\n")
    questions = folder / "questions.jsonl"
    row = '{"id": "1", "question": "How long is leave?", "kind": "fact", "accept": ["27 days"], '
    questions.write_text(row + '"form": null, "file": "leave.md", "modes": ["rag"]}\n')
    return Workload(DEMO, folder, questions)


def test_a_seed_gives_the_same_requests_with_what_a_search_finds(workload: Workload) -> None:
    asks = workload.requests(5, seed=1)
    assert asks == workload.requests(5, seed=1)
    assert all(ask.messages[0]["content"].endswith("How long is leave?") for ask in asks)
    assert all(ask.passages[0].filename == "leave.md" for ask in asks)


def test_answerable_questions_know_their_answer(workload: Workload) -> None:
    [ask] = workload.answerable()
    assert ask.item is not None and ask.item.accept == ("27 days",)
    assert "27 days" in ask.passages[0].text


def test_a_few_get_most_of_what_is_asked() -> None:

    drawn = Counter(zipf(random.Random(1), range(100), 5_000, exponent=1.0))
    top = sum(count for _, count in drawn.most_common(10))
    assert top / 5_000 == pytest.approx(0.565, abs=0.03)  # H(10) / H(100)


def test_only_what_the_cache_did_not_have_is_computed() -> None:
    assert computed_tokens([Usage(100, 1, 0), Usage(100, 1, 64)]) == 136


def test_by_popularity_holds_its_ranks_for_an_epoch_and_then_by_a_margin() -> None:
    order = ByPopularity(first_epoch=4, longest_epoch=4)
    for _ in range(4):
        assert order(None, passages("ab")) == tuple(passages("ab"))
    for _ in range(3):
        order(None, passages("b"))
    assert order(None, passages("ab")) == tuple(passages("ab"))  # the epoch still runs
    for _ in range(8):
        order(None, passages("b"))
    assert order(None, passages("ab")) == tuple(passages("ba"))


def test_what_changed_is_counted_in_pairs() -> None:
    before, after = [True] * 10 + [False] * 2, [False] * 6 + [True] * 6
    better, worse, p = changed(after, before)
    assert (better, worse) == (2, 6)
    assert p == pytest.approx(2 * (1 + 8 + 28) / 2**8)
    found = difference(after, before)
    assert found.value == pytest.approx(-4 / 12) and found.low < found.value < found.high
    assert changed(before, before) == (0, 0, 1.0)


def test_page_and_values_say_the_ratio() -> None:
    counts = {"relevance": [100, 200], "shared": [70, 150]}
    computed = Computed(DEMO, 16, 10, 40, counts)
    answered = Answered(
        DEMO,
        {"relevance": [True, True], "shared": [True, False]},
        {"relevance": [True, True], "shared": [True, True]},
    )
    text = markdown([computed], [answered], "command")
    assert "| 38% | 28% | 0.72 (0.70 – 0.75) |" in text
    assert "0 / 1 | 1.00 | 100.0% |" in text
    ratio, points = values([computed], [answered])
    assert ratio.name == "prompt_order.demo.blocks_16.shared_over_relevance"
    assert (ratio.value, ratio.ci_low, ratio.ci_high) == (0.725, 0.7, 0.75)
    assert points.value == -0.5

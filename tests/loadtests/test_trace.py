from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import trace
from loadtests.trace import Arrival, TraceError

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:48.6805900,374,44
2023-11-16 18:15:46.6805900,396,109
2023-11-16 18:15:47.1805900,879,55
"""
MOONCAKE = """{"timestamp": 500, "input_length": 1200, "output_length": 9, "hash_ids": [4, 5, 6]}
{"timestamp": 0, "input_length": 1100, "output_length": 7, "hash_ids": [4, 5, 7]}
"""
THREE = [Arrival(0.0, 10, 1), Arrival(2.0, 20, 2), Arrival(3.0, 30, 3)]


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_azures_requests_come_in_order_from_second_zero(tmp_path: Path) -> None:
    arrivals = trace.read(written(tmp_path, "conv.csv", AZURE))
    assert [arrival.at_s for arrival in arrivals] == pytest.approx([0.0, 0.5, 2.0])
    assert [(a.input_tokens, a.output_tokens) for a in arrivals] == [
        (396, 109),
        (879, 55),
        (374, 44),
    ]


def test_mooncakes_blocks_are_kept(tmp_path: Path) -> None:
    arrivals = trace.read(written(tmp_path, "conversation.jsonl", MOONCAKE))
    assert arrivals == [Arrival(0.0, 1100, 7, (4, 5, 7)), Arrival(0.5, 1200, 9, (4, 5, 6))]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.txt", AZURE, "must end in .csv"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "no arrival"),
        ("a.csv", "when,how\n1,2\n", "KeyError: 'TIMESTAMP'"),
        ("a.csv", AZURE.replace("374", "many"), "invalid literal"),
        ("a.jsonl", MOONCAKE + "{", "JSONDecodeError"),
    ],
)
def test_what_is_no_trace_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(TraceError, match=reason):
        trace.read(written(tmp_path, name, text))


def test_a_missing_file_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="FileNotFoundError"):
        trace.read(tmp_path / "nowhere.csv")


def test_a_part_of_a_trace_begins_at_its_own_zero() -> None:
    assert trace.cut(THREE, 1.0, 1.5) == [Arrival(1.0, 20, 2)]
    assert [arrival.at_s for arrival in trace.cut(THREE, 2.0, 0)] == [0.0, 1.0]
    with pytest.raises(TraceError, match="between second 4 and 5"):
        trace.cut(THREE, 4.0, 1.0)


def test_a_replay_keeps_order_and_proportions_at_any_speed() -> None:
    assert [*trace.schedule(THREE)] == [(0.0, THREE[0]), (2.0, THREE[1]), (3.0, THREE[2])]
    assert [due for due, _ in trace.schedule(THREE, speed=4)] == [0.0, 0.5, 0.75]


def test_senders_share_a_trace_without_gap_or_overlap() -> None:
    first, second = ([*trace.schedule(THREE, 2.0, share, of=2)] for share in range(2))
    assert sorted(first + second, key=lambda due: due[0]) == [*trace.schedule(THREE, 2.0)]
    assert (len(first), len(second)) == (2, 1)


def test_prompts_have_scaled_length_and_share_what_their_blocks_shared() -> None:
    one, two = Arrival(0, 1100, 7, (4, 5, 7)), Arrival(5, 1200, 9, (4, 5, 6))
    first, second = (trace.prompt(a, scale=1 / 32, limit=1000).split() for a in (one, two))
    assert (len(first), len(second)) == (34, 38)
    assert first[:32] == second[:32]  # two blocks of 512 / 32 words
    assert first[32:] != second[32:34]
    assert trace.prompt(one, 1 / 32, 1000) == " ".join(first)  # the same every time
    assert len(trace.prompt(one, 1.0, limit=50).split()) == 50


def test_prompts_without_blocks_begin_differently_and_are_never_empty() -> None:
    openings = {trace.prompt(Arrival(n, 400, 1), 1.0, 16) for n in range(50)}
    assert len(openings) == 50
    assert len(trace.prompt(Arrival(0, 1, 1), 1 / 32, 16).split()) == 1

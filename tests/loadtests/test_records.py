from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson

from loadtests.records import Made, Record, merged, page, read, write, write_values
from loadtests.report import Value

MADE = Made("two cores", "abc", "2026-01-01", "python -m it", 0.2, "client self-test passed")


def _record(key: str, value: float, made: Made = MADE) -> Record:
    values = [Value(f"gateway.{key}.x", value, 1.0, 2.0, "ratio")]
    return Record(key, key.upper(), made, [f"| {key} | {value} | 1 – 2 | |"], ["text"], values)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results/gateway.json"
    assert read(path) == []
    write([_record("a", 1.5)], path)
    assert read(path) == [_record("a", 1.5)]


def test_a_new_run_replaces_its_own_tables_and_leaves_the_others() -> None:
    old = [_record("b", 1), _record("gone", 1), _record("a", 1)]
    assert merged(old, [_record("b", 2)], ["a", "b"]) == [_record("a", 1), _record("b", 2)]


def test_values_are_one_list_one_value_per_line(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write_values([_record("a", 1), _record("b", 2)], path)
    assert [one["value"] for one in orjson.loads(path.read_bytes())] == [1, 2]
    assert len(path.read_text().splitlines()) == 4


def test_the_page_has_ratios_first_and_says_how_each_table_was_made() -> None:
    one_run = page([_record("a", 1), _record("b", 2)], ["gateway_streams.svg"])
    assert one_run.count("- commit: abc, 2026-01-01") == 1
    assert one_run.index("| b | 2 | 1 – 2 | |") < one_run.index("## A")
    assert "![gateway streams](gateway_streams.svg)" in one_run
    two = page([_record("a", 1), _record("b", 2, replace(MADE, commit="def"))])
    assert two.index("- commit: abc") < two.index("## B") < two.index("- commit: def")


def test_a_table_without_text_is_on_a_page_of_its_own() -> None:
    written = page([_record("a", 1), replace(_record("b", 2), text=[])])
    assert "| b | 2 | 1 – 2 | |" in written and "## B" not in written

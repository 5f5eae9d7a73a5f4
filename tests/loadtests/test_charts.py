from __future__ import annotations

import xml.etree.ElementTree as ET

from loadtests.charts import charts
from loadtests.records import Made, Record
from loadtests.report import Value

MADE = Made("two cores", "abc", "2026-01-01", "python -m it", 0.2, "passed")


def _record(streams: int, cost: float) -> Record:
    name = f"gateway.streams_{streams}.engram.cpu_per_token"
    return Record(f"streams_{streams}", "", MADE, [], [], [Value(name, cost, cost, cost, "µs")])


def test_a_chart_has_a_point_for_every_number_of_streams() -> None:
    (drawn,) = charts([_record(64, 100.0), _record(1, 900.0)]).values()
    picture = ET.fromstring(drawn)
    (line,) = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len((line.get("points") or "").split()) == 2


def test_one_point_is_no_chart() -> None:
    assert charts([_record(64, 100.0)]) == {}

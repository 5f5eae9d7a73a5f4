"""A small line chart as SVG, drawn by hand so that no plotting library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Series = Mapping[str, Sequence[tuple[float, float]]]
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700")
_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 150, 36, 46


@dataclass(frozen=True, slots=True)
class Axis:
    """Decades are marked on a logarithmic one, five steps on a linear one."""

    words: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return [self.low + (self.high - self.low) * n / 5 for n in range(6)]
        first, last = (round(math.log10(end)) for end in (self.low, self.high))
        return [10.0**n for n in range(first, last + 1)]


def decades(words: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis that holds all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(words, 10.0**low, 10.0 ** max(high, low + 1), logarithmic=True)


def svg(title: str, series: Series, x: Axis, y: Axis) -> str:
    """Points joined by lines, one colour for each name."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    back = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    named = _text(_LEFT, 20, title, "start", 'font-weight="bold"')
    lines = [head, back, named, *_grid(x, y), *_lines(series, x, y), "</svg>"]
    return "\n".join(lines) + "\n"


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    for tick in x.ticks():
        at, foot = _place(x, tick, y, y.low)
        yield f'<path d="M{at:.1f} {_TOP}V{foot:.1f}" stroke="#d8dee4"/>'
        yield _text(at, foot + 16, f"{tick:g}", "middle")
    for tick in y.ticks():
        left, at = _place(x, x.low, y, tick)
        yield f'<path d="M{left:.1f} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#d8dee4"/>'
        yield _text(left - 6, at + 4, f"{tick:g}", "end")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x.words, "middle")
    yield _text(_WIDTH - _RIGHT + 10, _TOP + 4, y.words, "start", 'fill="#57606a"')


def _lines(series: Series, x: Axis, y: Axis) -> Iterator[str]:
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [_place(x, a, y, b) for a, b in points]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for left, top in places:
            yield f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" fill="{colour}"/>'
        height = _TOP + 28 + 18 * number
        yield f'<circle cx="{_WIDTH - _RIGHT + 14}" cy="{height - 4}" r="4" fill="{colour}"/>'
        yield _text(_WIDTH - _RIGHT + 24, height, name, "start")


def _place(x: Axis, a: float, y: Axis, b: float) -> tuple[float, float]:
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + width * x.share(a), _TOP + height * (1 - y.share(b))


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'

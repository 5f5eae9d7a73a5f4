"""Turns what was measured of retrieval into a page, a chart and a list of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from loadtests.plot import Axis, decades, svg
from loadtests.report import Value, commit, hardware
from loadtests.retrieval_data import Corpus
from loadtests.retrieval_gpu import OnGpu
from loadtests.retrieval_index import Built, Parts, Point, Rebuilt
from loadtests.retrieval_search import Turn, Turns, latency_ms, qps, ratio_of
from loadtests.retrieval_service import (
    BATCHED,
    IDLE,
    INGESTING,
    ONE_BY_ONE,
    Batching,
    Freshness,
    Ingesting,
    Started,
)
from loadtests.statistics import Estimate, estimate, percentile

CHART = "retrieval.svg"
_METHOD = """\
Written by the command below; do not edit. Clients are coroutines beside the retriever, so nothing \
is counted but retrieval. Arms take turns in one process; ratios are of neighbouring turns, with a \
95 % bootstrap interval. Times depend on what else the machine does: compare ratios and CPU."""
_DATA = """\
Vectors and texts are generated with the statistics of real ones, which \
[`retrieval_data.py`](../../loadtests/retrieval_data.py) states; exact search is the truth for \
recall."""
_GPUS = {"80 GB (H100)": (80e9, 3.35e12), "141 GB (H200)": (141e9, 4.8e12)}
_GPU_SHARE = 0.8  # of its memory; the rest is for scratch and for growing
_HOST_BYTES = 64 * 2**30
_HOST_SHARE = 0.4  # so that an index can be rebuilt beside the old one


@dataclass(slots=True)
class Measured:
    """Everything one run found; what was not run is empty."""

    corpus: Corpus
    command: str
    load_before: float
    batching: dict[str, Batching] = field(default_factory=dict)  # by what was searched
    built: Sequence[Built] = ()
    points: Sequence[Point] = ()
    ingesting: Ingesting | None = None
    freshness: Freshness | None = None
    started: Started | None = None
    rebuilt: Rebuilt | None = None
    parts: Parts | None = None
    gpu: Sequence[OnGpu] = ()
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    http: Mapping[int, Sequence[Turn]] = field(default_factory=dict)


def markdown(found: Measured) -> str:
    return "\n".join(
        [
            "# Retrieval: how fast, how exact, how large",
            "",
            _METHOD,
            "",
            f"- hardware: {hardware()}",
            f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}",
            f"- command: `{found.command}`",
            f"- {found.corpus.chunks:,} chunks × {found.corpus.dim}. {_DATA}",
            f"- load average before the start: {found.load_before:.1f}; above 1, wait for a calm "
            "machine",
            "",
            *_batching(found.batching),
            *_http(found.http),
            *_while_ingesting(found.ingesting),
            *_freshness(found.freshness),
            *_kinds(found),
            *_capacity(found),
            *_gpu(found.gpu),
            *_quality(found.quality),
        ]
    )


def chart(points: Sequence[Point]) -> str:
    """Recall against the time of one search."""
    series: dict[str, list[tuple[float, float]]] = {
        kind: [(point.recall, point.one_ms.value) for point in points if point.kind == kind]
        for kind in dict.fromkeys(point.kind for point in points)
    }
    lowest = min(point.recall for point in points)
    x = Axis("recall@10 against exact search", min(0.9, int(lowest * 20) / 20), 1.0)
    y = decades("CPU-ms a search", [point.one_ms.value for point in points])
    return svg("Index kinds: what exactness costs", series, x, y)


def values(found: Measured) -> list[Value]:
    """The numbers that a later run is compared with."""
    named = [
        _value(f"retrieval.{key}.clients_{clients}.batched_over_one_by_one", _gain(turns), "ratio")
        for key, batching in found.batching.items()
        for clients, turns in batching.items()
    ]
    named += [
        _value(f"retrieval.recall.{point.kind}_{point.breadth}", _sure(point.recall), "share")
        for point in found.points
    ]
    if found.ingesting:
        named.append(_value("retrieval.ingesting.p99_over_idle", _slower(found.ingesting), "ratio"))
    if found.freshness:
        worst = max(found.freshness.consistent_ms)
        named.append(_value("retrieval.read_your_writes.worst", _sure(worst), "ms"))
    if found.parts:
        parts = found.parts
        total = parts.vectors + parts.words + parts.passages
        named.append(_value("retrieval.bytes_per_chunk", _sure(total), "B"))
    return named


def _batching(batching: Mapping[str, Batching]) -> Iterator[str]:
    if not batching:
        return
    yield "## Searches batched, and one by one"
    yield ""
    yield (
        "Closed loop: each client asks its next question when it has its answer. One owner thread, "
        "one thread for FAISS and the model; every question is another."
    )
    yield ""
    for words, by_clients in batching.items():
        yield f"**{words[0].upper()}{words[1:]}**"
        yield ""
        yield (
            "| clients | one by one: searches/s | p50 / p99 ms | batched: searches/s "
            "| p50 / p99 ms | batched ÷ one by one | CPU-ms a search |"
        )
        yield "|---|---|---|---|---|---|---|"
        for clients, turns in by_clients.items():
            single, batched = turns[ONE_BY_ONE], turns[BATCHED]
            yield _row(
                clients,
                f"{qps(single).value:.0f}",
                _p50_p99(single),
                f"{qps(batched).value:.0f}",
                _p50_p99(batched),
                _interval(_gain(turns), ".2f"),
                f"{_cpu_ms(single):.2f} → {_cpu_ms(batched):.2f}",
            )
        yield ""


def _http(turns: Mapping[int, Sequence[Turn]]) -> Iterator[str]:
    if not turns:
        return
    yield "## Over HTTP"
    yield ""
    yield "`POST /v1/vector_stores/{id}/search` of a running server, closed loop."
    yield ""
    yield "| clients | searches/s | p50 / p99 ms |"
    yield "|---|---|---|"
    for clients, repeats in turns.items():
        yield _row(clients, f"{qps(repeats).value:.0f}", _p50_p99(repeats))
    yield ""


def _while_ingesting(found: Ingesting | None) -> Iterator[str]:
    if found is None:
        return
    idle, busy = found.turns[IDLE], found.turns[INGESTING]
    yield "## While files come in"
    yield ""
    yield (
        f"Open loop: {found.per_s:.0f} searches/s at random moments, latency from the moment a "
        f"search was due. The real ingest worker, in a process of its own, meanwhile parsed, "
        f"embedded and stored {found.files} files of {found.chunks} chunks, one after the other."
    )
    yield ""
    yield "| | idle | ingesting | ratio |"
    yield "|---|---|---|---|"
    for percent in (50, 99):
        gain = ratio_of(lambda turn, p=percent: turn.latency_ms(p), busy, idle)  # type: ignore[misc]
        at_rest, at_work = (latency_ms(turns, percent).value for turns in (idle, busy))
        yield _row(f"p{percent} ms", f"{at_rest:.1f}", f"{at_work:.1f}", _interval(gain, ".2f"))
    yield ""


def _freshness(found: Freshness | None) -> Iterator[str]:
    if found is None:
        return
    yield "## How soon a write is found"
    yield ""
    yield "| from | to | p50 ms | worst ms |"
    yield "|---|---|---|---|"
    rows = (
        ("the commit", "a search that asks for the newest (`consistent`)", found.consistent_ms),
        ("the commit", "any search", found.followed_ms),
        ("attaching a small file", "a search, through the ingest worker", found.attached_ms),
    )
    for start, end, times in rows:
        yield _row(start, end, f"{percentile(times, 50):.0f}", f"{max(times):.0f}")
    yield ""
    yield (
        f"Of {len(found.consistent_ms)} deleted files the very next search showed "
        f"{found.deleted_seen}."
    )
    yield ""


def _kinds(found: Measured) -> Iterator[str]:
    if not found.points:
        return
    yield "## Kinds of index"
    yield ""
    yield f"![Recall against time]({CHART})"
    yield ""
    yield "| kind | breadth | recall@10 | CPU-ms a search, alone | of 32 |"
    yield "|---|---|---|---|---|"
    for point in found.points:
        yield _row(
            point.kind,
            point.breadth or "",
            f"{point.recall:.3f}",
            f"{point.one_ms.value:.2f}",
            f"{point.batched_ms.value:.2f}",
        )
    yield ""
    yield "| kind | made in s | CPU-s | bytes a chunk |"
    yield "|---|---|---|---|"
    for built in found.built:
        yield _row(
            built.kind,
            f"{built.seconds:.1f}",
            f"{built.cpu_s:.1f}",
            f"{built.bytes_per_chunk:.0f}",
        )
    yield ""
    if found.rebuilt:
        yield (
            f"From flat to HNSW in the background: {found.rebuilt.run_s:.1f} s, of which searches "
            f"wait {found.rebuilt.begin_ms:.1f} ms at the start and {found.rebuilt.swap_ms:.1f} ms "
            "at a time at the end, after a tenth of the chunks changed meanwhile."
        )
        yield ""


def _capacity(found: Measured) -> Iterator[str]:
    if found.parts is None:
        return
    parts, dim = found.parts, found.corpus.dim
    host = parts.words + parts.passages
    whole = host + parts.vectors
    yield "## Capacity"
    yield ""
    yield (
        f"Resident bytes a chunk: vectors {parts.vectors:.0f} (the numbers alone {4 * dim}), words "
        f"{parts.words:.0f}, passages {parts.passages:.0f}; together {whole:.0f}."
    )
    if found.started:
        yield (
            f"A whole retriever grew by {found.started.bytes_per_chunk:.0f} a chunk, and had read "
            f"all of them from SQL in {found.started.seconds:.1f} s "
            f"({found.corpus.chunks / found.started.seconds:,.0f} chunks/s)."
        )
    yield ""
    yield "Extrapolated, not run:"
    yield ""
    yield "| where | formula | chunks | host memory | one exact search |"
    yield "|---|---|---|---|---|"
    on_host = _HOST_BYTES * _HOST_SHARE / whole
    yield _row(
        "64 GiB host, CPU",
        f"{_HOST_SHARE} × memory ÷ {whole:.0f} B",
        _millions(on_host),
        "64 GiB",
        "HNSW",
    )
    for name, (memory, speed) in _GPUS.items():
        chunks = _GPU_SHARE * memory / (2 * dim)
        yield _row(
            f"GPU, {name}",
            f"{_GPU_SHARE} × memory ÷ 2 × {dim} B",
            _millions(chunks),
            f"{chunks * host / 2**30:.0f} GiB ({host:.0f} B a chunk)",
            f"≥ {chunks * dim * 2 / speed * 1e3:.0f} ms (bytes ÷ {speed / 1e12:.2f} TB/s)",
        )
    yield ""


def _gpu(rows: Sequence[OnGpu]) -> Iterator[str]:
    yield "## On a GPU"
    yield ""
    if not rows:
        yield "Not run: FAISS finds no GPU here. The same command measures it where there is one."
        yield ""
        return
    yield "Exact search in half precision; the roofline is what a copy and a product reach there."
    yield ""
    yield "| chunks × dim | batch | ms | share of the roofline | ms with adds and deletes |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield _row(
            f"{row.chunks:,} × {row.dim}",
            row.batch,
            f"{row.ms:.2f}",
            f"{row.roofline:.0%}",
            f"{row.changing_ms:.2f}",
        )
    yield ""


def _quality(quality: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    if not quality:
        return
    measures = list(next(iter(quality.values())))
    yield "## Against labelled questions"
    yield ""
    yield _row("ranking", *measures)
    yield "|---" * (len(measures) + 1) + "|"
    for name, scores in quality.items():
        yield _row(name, *(f"{scores[measure]:.3f}" for measure in measures))
    yield ""


def _gain(turns: Turns) -> Estimate:
    return ratio_of(lambda turn: turn.qps, turns[BATCHED], turns[ONE_BY_ONE])


def _slower(found: Ingesting) -> Estimate:
    return ratio_of(lambda turn: turn.latency_ms(99), found.turns[INGESTING], found.turns[IDLE])


def _cpu_ms(turns: Sequence[Turn]) -> float:
    return estimate([turn.cpu_ms for turn in turns]).value


def _p50_p99(turns: Sequence[Turn]) -> str:
    return f"{latency_ms(turns, 50).value:.0f} / {latency_ms(turns, 99).value:.0f}"


def _sure(value: float) -> Estimate:
    return Estimate(value, value, value)


def _value(name: str, found: Estimate, unit: str) -> Value:
    name = name.lower().replace(" ", "_").replace(",", "")
    return Value(name, round(found.value, 4), round(found.low, 4), round(found.high, 4), unit)


def _millions(chunks: float) -> str:
    return f"{chunks / 1e6:.1f} million"


def _interval(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}} – {found.high:{form}})"


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"

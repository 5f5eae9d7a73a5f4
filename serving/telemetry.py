"""Metrics, structured logs and traces: every name Engram reports is declared here.

Metrics are shared by all processes of the node through prometheus-client's multiprocess files, so
that `/metrics` on any replica shows the fleet. Log lines are JSON with an allow-list of fields:
no keys, no document text, no questions.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.log_lines import LinesBehind
from serving.settings import TelemetrySettings

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)

REQUESTS = Counter(
    "engram_requests", "Answers by mode and how they ended.", ["endpoint", "mode", "status"]
)
TTFT = Histogram(
    "engram_time_to_first_token_seconds", "From request to first text.", ["mode"], buckets=_SECONDS
)
INTER_TOKEN = Histogram(
    "engram_inter_token_seconds", "Gaps between chunks of one answer.", ["mode"], buckets=_GAPS
)
DURATION = Histogram(
    "engram_request_duration_seconds", "From request to last byte.", ["mode"], buckets=_SECONDS
)
DECISIONS = Counter(
    "engram_decisions", "Chosen modes; chosen_by is `request` or `policy`.", ["mode", "chosen_by"]
)
TOKENS = Counter("engram_tokens", "Tokens by mode and kind.", ["mode", "kind"])
RETRIEVAL = Histogram(
    "engram_retrieval_stage_seconds", "Retrieval by stage.", ["stage"], buckets=_GAPS
)
RERANKED = Counter(
    "engram_reranked", "Rerankings; what times out or fails keeps its order.", ["result"]
)
REWRITTEN = Counter(
    "engram_query_rewrites", "Queries that the model was asked to rewrite.", ["result"]
)
RUNNING = Gauge("engram_requests_running", "Admitted requests.", multiprocess_mode="livesum")
WAITING = Gauge("engram_requests_waiting", "Queued requests.", multiprocess_mode="livesum")
ABORTED = Counter("engram_requests_aborted", "Requests whose client went away.")
ADAPTER_REQUESTS = Counter(
    "engram_adapter_requests", "Answers by adapter and how they ended.", ["adapter", "status"]
)
ADAPTER_TTFT = Histogram(
    "engram_adapter_time_to_first_token_seconds",
    "From request to first text, by adapter.",
    ["adapter"],
    buckets=_SECONDS,
)
ADAPTER_TOKENS = Counter("engram_adapter_tokens", "Tokens by adapter.", ["adapter", "kind"])
ADAPTER_FALLBACKS = Counter(
    "engram_adapter_fallbacks", "Answers by a stand-in for the adapter that was wanted.", ["by"]
)
ADAPTER_LEASES = Counter(
    "engram_adapter_leases", "Requests for an adapter by whether it was loaded.", ["result"]
)
ADAPTER_RESIDENT = Gauge(
    "engram_adapter_resident",
    "Replicas that hold the adapter in their engine.",
    ["adapter"],
    multiprocess_mode="livesum",
)
ADAPTER_SLOTS = Gauge(
    "engram_adapter_slots", "Slots by state.", ["state"], multiprocess_mode="livesum"
)
ADAPTER_LOADS = Counter("engram_adapter_loads", "Adapter loads.", ["result"])
ADAPTER_LOAD = Histogram(
    "engram_adapter_load_seconds", "Time to load one adapter.", buckets=_SECONDS
)
ADAPTER_EVICTIONS = Counter(
    "engram_adapter_evictions", "Adapters unloaded, by why: for another, or retired.", ["reason"]
)
INGESTED = Counter("engram_ingest_files", "Files taken up, by how that ended.", ["outcome"])
INGEST_STAGE = Histogram(
    "engram_ingest_stage_seconds", "Reading one file, by stage.", ["stage"], buckets=_SECONDS
)
INGEST_MEMORY = Gauge(
    "engram_ingest_peak_memory_bytes",
    "Most memory that an ingest worker of the node has held since its start.",
    multiprocess_mode="livemax",
)
INGEST_QUEUED = Gauge(
    "engram_ingest_queued", "Files that wait or are being read.", multiprocess_mode="livemostrecent"
)
FINE_TUNED = Counter("engram_fine_tuning_jobs", "Fine-tuning jobs, by how they ended.", ["outcome"])
INDEX_SEQ = Gauge(
    "engram_index_seq",
    "Change of SQL that every replica of the shard has followed.",
    ["shard"],
    multiprocess_mode="livemin",
)
INDEX_EPOCH = Gauge(
    "engram_index_epoch",
    "Times that an index was built anew since the start.",
    ["shard"],
    multiprocess_mode="livemax",
)
INDEX_CHUNKS = Gauge(
    "engram_index_chunks", "Chunks that a replica holds.", ["shard"], multiprocess_mode="livemax"
)
SNAPSHOT = Counter(
    "engram_snapshot", "Index snapshots taken and loaded, and why one was not.", ["outcome"]
)
LEDGER_DROPPED = Counter("engram_ledger_dropped", "Request records lost to a full queue.")
ASYNCIO_TASKS = Gauge(
    "engram_asyncio_tasks",
    "Tasks of a replica's event loop at its last health check; what grows for days is a leak.",
    ["part"],
    multiprocess_mode="livesum",
)
OPEN_FILES = Gauge(
    "engram_open_files",
    "File descriptors of a replica's process at its last health check.",
    ["part"],
    multiprocess_mode="livesum",
)

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
LOGGED = (
    "tenant", "key_id", "endpoint", "model", "mode", "adapter", "status", "code", "ttft_ms",
    "duration_ms", "prompt_tokens", "completion_tokens", "stage", "seconds", "files", "chunks",
    "port", "replica", "count",
)  # fmt: skip


MAX_ADAPTER_LABELS, OTHER = 100, "other"
_adapter_labels: set[str] = set()


def adapter_label(adapter: str) -> str:
    """The adapter's name while there are few, since a label once given stays until the restart."""
    if adapter not in _adapter_labels:
        if len(_adapter_labels) >= MAX_ADAPTER_LABELS:
            return OTHER
        _adapter_labels.add(adapter)
    return adapter


def note_process(part: str) -> None:
    """Counts what this process holds open; called from its event loop."""
    ASYNCIO_TASKS.labels(part).set(len(asyncio.all_tasks()))
    OPEN_FILES.labels(part).set(psutil.Process().num_fds())


def exposition(folder: Path | None) -> tuple[bytes, str]:
    """All processes' metrics in Prometheus text format, and its content type.

    `folder` is the multiprocess folder; None exposes this process alone.
    """
    registry = REGISTRY
    if folder is not None:
        _forget_dead_processes(folder)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead_processes(folder: Path) -> None:
    """A killed process cannot take its own live gauges back."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rsplit("_", 1)[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id and allowed fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= {name: record.__dict__[name] for name in LOGGED if name in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(settings: TelemetrySettings, folder: Path) -> None:
    """Logs to standard error and to `engram.log` in the folder; starts tracing if it is set.

    Every process of the node appends to the one file. Ray Serve swaps `sys.stderr` for a logger of
    its own level, so the real one is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handler = LinesBehind(sys.__stderr__, folder / "engram.log")
    handler.setFormatter(JsonFormatter())
    for old in logging.getLogger("engram").handlers:
        old.close()
    for name in ("engram", "serving"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.log_level)
        logger.propagate = False
    if settings.otlp_endpoint:
        _export_traces(settings.otlp_endpoint)


_tracer: Any = None


def _export_traces(endpoint: str) -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "engram"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    global _tracer
    _tracer = trace.get_tracer("engram", tracer_provider=provider)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a request, in Unix nanoseconds."""

    name: str
    began_ns: int
    ended_ns: int


def trace(
    name: str,
    began_ns: int,
    ended_ns: int,
    stages: Iterable[Stage],
    attributes: Mapping[str, str | float],
) -> None:
    """Exports one span with its stages below it once they are over, if tracing is on."""
    if _tracer is None:
        return
    from opentelemetry.trace import set_span_in_context

    whole = _tracer.start_span(name, start_time=began_ns, attributes=attributes)
    inside = set_span_in_context(whole)
    for stage in stages:
        span = _tracer.start_span(stage.name, context=inside, start_time=stage.began_ns)
        span.end(stage.ended_ns)
    whole.end(ended_ns)

"""One settings tree, read once from the environment (`ENGRAM_…`) or a YAML file, then frozen.

The only module that reads the environment. Every part receives its own slice. An unknown key is
an error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

PREFIX = "ENGRAM_"
ROOT = Path(__file__).resolve().parent.parent


class Slice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _parsed(value: Any) -> Any:
    return yaml.safe_load(value) if isinstance(value, str) else value


class EngineSettings(Slice):
    """The language model and how vLLM runs it."""

    kind: Literal["vllm", "scripted"] = Field(default="vllm", description="engine implementation")
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="where vLLM runs")
    model: str = Field(
        default=str(ROOT / "deploy/demo/model/weights"), description="folder or Hugging Face name"
    )
    served_name: str = Field(default="engram-demo", description="the base model's name in the API")
    max_model_len: int = Field(
        default=-1, description="context in tokens; -1: what model and memory allow"
    )
    max_num_seqs: int = Field(default=64, ge=1, description="requests decoded together")
    max_loras: int = Field(default=4, description="adapters in one batch, and resident at once")
    host_loras: int = Field(
        default=16, ge=0, description="further adapters kept in host memory, out of their slots"
    )
    max_lora_rank: int = Field(default=16, description="largest LoRA rank accepted")
    kv_cache_gib: float = Field(default=0.5, description="KV cache on CPU, in GiB")
    gpu_memory_utilization: float = Field(
        default=0.85, description="share of GPU memory vLLM may take"
    )
    tensor_parallel_size: int = Field(default=1, description="GPUs per gateway replica")
    cpu_threads: int = Field(default=1, description="OpenMP threads on CPU")
    tool_call_parser: str | None = Field(
        default=None, description="vLLM tool parser, e.g. `hermes`"
    )
    reasoning_parser: str | None = Field(default=None, description="vLLM reasoning parser")
    extra_args: Annotated[dict[str, Any], BeforeValidator(_parsed)] = Field(
        default={}, description="further vLLM engine arguments, verbatim"
    )


class RetrievalSettings(Slice):
    """Embedder, indexes and chunking."""

    embedder: Literal["minilm", "hashing"] = Field(default="minilm", description="embedding model")
    threads: int = Field(default=1, description="threads for the embedder and FAISS")
    gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs, or a part of one, that a retriever replica asks Ray for; 0: CPU",
    )
    chunk_tokens: int = Field(default=96, description="largest chunk, in words")
    candidates: int = Field(default=20, description="hits taken from each index before fusion")
    prompt_order: Literal["shared", "relevance"] = Field(
        default="shared",
        description="passages in a prompt: as earlier ones began, for the prefix cache, or by rank",
    )
    rewriter: Literal["rules", "model"] = Field(
        default="rules",
        description="who makes a query of a conversation: `rules`, or the served `model`",
    )
    rewrite_timeout_s: float = Field(
        default=1.0, gt=0, description="after this long the rules do it"
    )
    reranker: str | None = Field(
        default=None,
        description="cross-encoder: folder, Hugging Face name, or URL of a vLLM `/score`",
    )
    rerank_candidates: int = Field(default=20, ge=1, description="hits that the reranker reads")
    rerank_timeout_s: float = Field(
        default=1.0, gt=0, description="after this long the order before reranking stands"
    )
    index: Literal["auto", "flat", "ivf", "hnsw", "cagra"] = Field(
        default="auto", description="vector index; `auto` chooses by size, `flat` is exact"
    )
    nprobe: int = Field(default=128, ge=1, description="lists that a search in an IVF index reads")
    ef: int = Field(default=128, ge=1, description="breadth of a search in an HNSW index")
    max_batch: int = Field(default=64, ge=1, description="searches answered together at most")
    max_queued: int = Field(
        default=1024, ge=1, description="searches waiting for a retriever; more get 503"
    )
    poll_interval_s: float = Field(default=0.5, description="how often a replica follows SQL")
    snapshot_every: int = Field(
        default=5_000, ge=0, description="changes of SQL between index snapshots; 0: never"
    )
    purge_after_days: float = Field(
        default=7.0, gt=0, description="how long rows of deleted chunks are kept for followers"
    )
    shards: int = Field(default=1, ge=1, description="parts the vector stores are spread over")
    split_chunks: int = Field(
        default=1_000_000, ge=0, description="a store with more is spread over all shards; 0: never"
    )

    @property
    def split_above(self) -> int:
        """Chunks of the largest store that stays whole; 0 where nothing is split."""
        return self.split_chunks if self.shards > 1 else 0


class IngestSettings(Slice):
    """Reading files into vector stores, beside the answers."""

    poll_interval_s: float = Field(default=0.25, description="how often a worker looks for files")
    lease_s: float = Field(
        default=10.0, description="after so long without a sign a worker's file goes to another"
    )
    memory_mib: int = Field(default=1024, description="memory a parser may take for one file")
    timeout_s: float = Field(default=120.0, description="time a parser may take without a result")


class FineTuneSettings(Slice):
    """Training adapters, beside the answers."""

    threads: int = Field(default=1, ge=1, description="CPU threads of one training")
    idle_only: bool = Field(
        default=True, description="training on CPU takes only time that nothing else wants"
    )
    memory_mib: int = Field(default=4096, ge=256, description="memory one training may take")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs, or a part of one, that a training asks Ray for"
    )
    rank: int = Field(
        default=16, ge=1, description="rank of new adapters, if `engine.max_lora_rank` allows it"
    )
    tokens_per_pass: int = Field(
        default=4096, ge=64, description="tokens that go through the model together"
    )
    checkpoint_every_s: float = Field(
        default=300.0, ge=0, description="how often a training can be gone on from at least"
    )
    max_active: int = Field(
        default=8, ge=1, description="jobs of a tenant that have not ended; more get 429"
    )
    poll_interval_s: float = Field(default=0.5, description="how often a worker looks for jobs")
    lease_s: float = Field(
        default=15.0, description="after so long without a sign a worker's job goes to another"
    )


class AdmissionSettings(Slice):
    """What one gateway replica accepts."""

    max_running: int = Field(default=64, ge=1, description="requests generating at once")
    max_queued: int = Field(default=128, description="requests waiting beyond that; more get 503")
    max_wait_s: float = Field(
        default=2.0,
        gt=0,
        description="longest wait of a question for its turn; what would wait longer gets 503",
    )
    requests_per_minute: int = Field(default=0, description="per API key; 0 is unlimited")
    max_body_bytes: int = Field(default=8 * 2**20, description="largest JSON body")
    max_upload_bytes: int = Field(default=64 * 2**20, description="largest uploaded file")
    deadline_s: float = Field(default=120.0, description="longest time one request may take")


class RegistrySettings(Slice):
    """Adapters that are accepted, and the disk that their copies take."""

    max_bytes: int = Field(default=2**30, ge=1, description="largest adapter, unpacked")
    cache_bytes: int = Field(
        default=20 * 2**30, ge=1, description="disk that adapters for the engines may take"
    )


class TelemetrySettings(Slice):
    """Logs, metrics and traces."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="log level"
    )
    otlp_endpoint: str | None = Field(
        default=None, description="OpenTelemetry collector; unset is off"
    )


class ServerSettings(Slice):
    """Where it listens and how many replicas run."""

    host: str = Field(default="127.0.0.1", description="address HAProxy binds")
    port: int = Field(default=8000, description="port of the API")
    gateway_replicas: int = Field(default=1, description="gateway replicas, one engine each")
    retriever_replicas: int = Field(default=1, description="retriever replicas per shard")
    ingest_workers: int = Field(default=1, description="processes that read files into stores")
    finetune_workers: int = Field(
        default=1, ge=0, description="processes that train one adapter at a time; 0: none"
    )


class Settings(Slice):
    """Everything; a YAML file and `ENGRAM_SECTION__FIELD` variables override the defaults."""

    data: Path = Field(
        default=ROOT / ".engram", description="folder of all state: SQL, objects, adapters"
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL; default: SQLite in `data`"
    )
    engine: EngineSettings = EngineSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    ingest: IngestSettings = IngestSettings()
    finetune: FineTuneSettings = FineTuneSettings()
    admission: AdmissionSettings = AdmissionSettings()
    registry: RegistrySettings = RegistrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    server: ServerSettings = ServerSettings()

    @property
    def sql_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'engram.sqlite'}"

    @property
    def objects(self) -> Path:
        return self.data / "objects"

    @property
    def snapshots(self) -> Path:
        return self.data / "snapshots"

    @property
    def training(self) -> Path:
        """Folders of trainings that run, and objects of those that can be gone on with."""
        return self.data / "training"

    @property
    def adapters(self) -> Path:
        """Where operators may copy adapters to."""
        return self.data / "adapters"

    @property
    def adapter_objects(self) -> Path:
        return self.objects / "adapters"

    @property
    def adapter_cache(self) -> Path:
        return self.data / "adapter-cache"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def metrics(self) -> Path:
        return self.data / "metrics"


class SettingsError(ValueError):
    """A key is unknown or a value does not fit; the message names the key and the fix."""


def load(environ: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Reads the YAML file, then the environment over it.

    Raises:
        SettingsError: a key is unknown or a value does not fit its type.
    """
    environ = os.environ if environ is None else environ
    file = file or (Path(environ[PREFIX + "CONFIG"]) if PREFIX + "CONFIG" in environ else None)
    tree: dict[str, Any] = (yaml.safe_load(file.read_text()) or {}) if file else {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and name != PREFIX + "CONFIG":
            _put(tree, name, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def to_environ(settings: Settings) -> dict[str, str]:
    """The environment that makes `load` return equal settings, for child processes."""
    return {PREFIX + key: value for key, value in _flatten(settings.model_dump(mode="json"))}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = prefix + key.upper()
        if isinstance(value, dict) and key != "extra_args":
            yield from _flatten(value, name + "__")
        elif value is not None:
            yield name, yaml.safe_dump(value) if isinstance(value, dict) else str(value)


def _put(tree: dict[str, Any], name: str, value: str) -> None:
    *sections, key = name.removeprefix(PREFIX).lower().split("__")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[key] = value


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, [name for name, _, _ in fields()], n=1)
            lines.append(
                f"unknown setting '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")
            )
        else:
            lines.append(f"setting '{key}': {problem['msg']}, got {problem['input']!r}")
    return "; ".join(lines)


def fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting as (dotted key, default, description), for docs and messages."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Slice):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.default, field.description or ""

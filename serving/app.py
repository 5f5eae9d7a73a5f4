"""The composition root: settings become parts, parts become an application.

One gateway is the same object in one process and in a cluster; only the retriever it is given
differs (the object itself, or a handle to its replicas).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from serving import telemetry
from serving.adapters import lifecycle
from serving.adapters.acceptance import Acceptance
from serving.adapters.base_model import BaseModel
from serving.adapters.cache import DiskCache
from serving.adapters.folders import Folders
from serving.adapters.reconcile import Reconciler, replica_name
from serving.adapters.registry import Registry
from serving.admission import Admission
from serving.answer import Answerer
from serving.api import errors
from serving.api.adapters import AdaptersApi
from serving.api.admin import AdminApi
from serving.api.answers import AnswersApi
from serving.api.completions import CompletionsApi
from serving.api.edge import Edge
from serving.api.embeddings import EmbeddingsApi
from serving.api.feedback import FeedbackApi
from serving.api.file_batches import FileBatchesApi
from serving.api.files import FilesApi
from serving.api.fine_tuning import FineTuningApi
from serving.api.health import HealthApi
from serving.api.models import ModelsApi
from serving.api.prompt import PromptApi
from serving.api.residency import ResidencyApi
from serving.api.responses import ResponsesApi
from serving.api.rollouts import RolloutsApi
from serving.api.search import SearchApi
from serving.api.store_files import StoreFilesApi
from serving.api.vector_stores import VectorStoresApi
from serving.directory import Directory
from serving.errors import ServingError
from serving.finetune.jobs import Jobs
from serving.finetune.launch import Launcher, LocalLauncher
from serving.finetune.worker import FineTuneWorker
from serving.generation.engine import Engine
from serving.generation.passage_order import PassageOrder
from serving.generation.prompt import GROUNDING, GUARDED, PromptBuilder
from serving.generation.scripted_engine import ScriptedEngine
from serving.generation.vllm_engine import VllmEngine
from serving.ingest.worker import IngestWorker
from serving.recorder import Recorder
from serving.retrieval.activity import NotingRetriever
from serving.retrieval.local_retriever import LocalRetriever
from serving.retrieval.retriever import Retriever
from serving.retrieval.shard import WHOLE, Shard
from serving.retrieval.sharded import ShardedRetriever
from serving.routing.affinity import Affinity
from serving.routing.evidence import EvidenceGatherer
from serving.routing.leasing import Leasing
from serving.routing.policy import decide
from serving.routing.query import rewrite
from serving.routing.rewriter import ModelRewriter, Rewriter, RuleRewriter
from serving.settings import EngineSettings, RetrievalSettings, Settings
from serving.store.adapters import AdapterVersions
from serving.store.assistants import Assistants
from serving.store.completions import Completions
from serving.store.database import Database
from serving.store.feedback import Feedback
from serving.store.file_batches import FileBatches
from serving.store.files import Files
from serving.store.fine_tuning import FineTuning
from serving.store.keys import Keys
from serving.store.ledger import Ledger
from serving.store.objects import FolderObjects
from serving.store.outcomes import Outcomes
from serving.store.residency import Residencies
from serving.store.responses import Responses
from serving.store.snapshots import Snapshots
from serving.store.vector_stores import VectorStores

log = logging.getLogger("engram.app")
SCRIPTED_CONTEXT = 1024
BESIDE_ANSWERS = 4  # uploads, embeddings and searches at once; the others wait in their queue


@dataclass(frozen=True, slots=True)
class Store:
    """Everything kept in SQL and the object store."""

    keys: Keys
    assistants: Assistants
    files: Files
    vector_stores: VectorStores
    responses: Responses
    completions: Completions
    feedback: Feedback
    file_batches: FileBatches
    ledger: Ledger
    outcomes: Outcomes
    adapters: Registry
    residencies: Residencies
    fine_tuning: FineTuning


def open_store(settings: Settings) -> Store:
    """Opens the database, bringing its schema up to date."""
    database = _open_database(settings)
    objects = FolderObjects(settings.objects)
    ledger = Ledger(database)
    return Store(
        keys=Keys(database),
        assistants=Assistants(database),
        files=Files(database, objects),
        vector_stores=VectorStores(database),
        responses=Responses(database),
        completions=Completions(database),
        feedback=Feedback(database),
        file_batches=FileBatches(database),
        ledger=ledger,
        outcomes=Outcomes(database, settle=ledger.flush),
        adapters=_create_registry(settings, database),
        residencies=Residencies(database),
        fine_tuning=FineTuning(database),
    )


def _create_registry(settings: Settings, database: Database) -> Registry:
    limits, engine = settings.registry, settings.engine
    objects = FolderObjects(settings.adapter_objects)
    return Registry(
        versions=AdapterVersions(database, lifecycle.advance),
        objects=objects,
        cache=DiskCache(settings.adapter_cache, limits.cache_bytes, objects),
        folders=Folders(settings.adapters),
        acceptance=Acceptance(
            base=BaseModel(engine.served_name, _weights_of(engine)),
            max_rank=engine.max_lora_rank,
            max_bytes=limits.max_bytes,
            scratch=settings.adapter_cache,
        ),
    )


def _weights_of(settings: EngineSettings) -> str | None:
    """The scripted engine has none, unless it is told whose it stands in for."""
    is_told = settings.model != EngineSettings().model
    return settings.model if settings.kind == "vllm" or is_told else None


def _open_database(settings: Settings) -> Database:
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.sql_url)
    database.migrate()
    return database


def create_retriever(settings: Settings, shard: Shard = WHOLE) -> LocalRetriever:
    telemetry.configure(settings.telemetry, settings.logs)
    database = _open_database(settings)
    folder = settings.snapshots / f"{shard.number}-of-{shard.of}"
    snapshots = Snapshots(database, FolderObjects(folder), str(shard))
    return LocalRetriever(settings.retrieval, database, shard=shard, snapshots=snapshots)


def create_ingest(settings: Settings) -> IngestWorker:
    """One worker; it works from entering it to leaving it."""
    telemetry.configure(settings.telemetry, settings.logs)
    return IngestWorker(
        settings.ingest,
        settings.retrieval,
        _open_database(settings),
        FolderObjects(settings.objects),
    )


def create_finetune(settings: Settings, launcher: Launcher | None = None) -> FineTuneWorker:
    """One worker; it works from entering it to leaving it."""
    telemetry.configure(settings.telemetry, settings.logs)
    database = _open_database(settings)
    return FineTuneWorker(
        settings.finetune,
        settings.engine,
        FineTuning(database),
        Files(database, FolderObjects(settings.objects)),
        _create_registry(settings, database),
        FolderObjects(settings.training / "states"),
        launcher or LocalLauncher(settings.finetune.threads),
        settings.training / "work",
    )


def create_engine(settings: EngineSettings) -> Engine:
    if settings.kind == "vllm":
        return VllmEngine(settings)
    return ScriptedEngine(
        model=settings.served_name,
        max_model_len=settings.max_model_len if settings.max_model_len > 0 else SCRIPTED_CONTEXT,
        max_num_seqs=settings.max_num_seqs,
        max_loras=settings.max_loras,
        **settings.extra_args,
    )


def create_rewriter(settings: RetrievalSettings, engine: Engine) -> Rewriter:
    if settings.rewriter == "model":
        return ModelRewriter(engine, settings.rewrite_timeout_s)
    return RuleRewriter()


def create_prompts(settings: Settings, engine: Engine) -> PromptBuilder:
    order = PassageOrder() if settings.retrieval.prompt_order == "shared" else None
    return PromptBuilder(engine, grounding_of(settings.engine), order)


def grounding_of(settings: EngineSettings) -> str:
    """The demo model reads the line that it was trained on; others are told more."""
    return GROUNDING if settings.model == EngineSettings().model else GUARDED


def create_gateway(settings: Settings, retriever: Retriever) -> FastAPI:
    """The HTTP application of one gateway replica; its lifespan starts and stops the engine."""
    telemetry.configure(settings.telemetry, settings.logs)
    store = open_store(settings)
    parts = _parts(retriever)
    retriever = NotingRetriever(retriever, store.vector_stores.touch)
    engine = create_engine(settings.engine)
    directory = Directory(
        store.assistants, store.adapters, store.vector_stores, settings.engine.served_name
    )
    affinity = Affinity(store.adapters, retriever)
    limits = settings.admission
    at_once = min(limits.max_running, settings.engine.max_num_seqs)  # more would wait in the engine
    answerer = Answerer(
        admission=Admission(limits.model_copy(update={"max_running": at_once})),
        assistants=directory,
        evidence=EvidenceGatherer(retriever, affinity, create_rewriter(settings.retrieval, engine)),
        decide=decide,
        prompts=create_prompts(settings, engine),
        adapters=Leasing(store.adapters, engine),
        engine=engine,
        recorder=Recorder(store.ledger.record),
        deadline_s=limits.deadline_s,
    )

    reconciler = Reconciler(engine.residency, store.residencies, store.adapters, replica_name())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(store.ledger.close)
            await stack.enter_async_context(engine)
            await asyncio.to_thread(store.adapters.sweep)
            await stack.enter_async_context(reconciler)
            await _warm(store, affinity)
            yield

    jobs = Jobs(
        store.fine_tuning,
        store.files,
        store.adapters,
        settings.engine.served_name,
        settings.finetune.max_active if settings.server.finetune_workers else 0,
    )
    # Nobody waits there for a first token, and a slow sender holds its slot for long.
    beside = {"max_running": BESIDE_ANSWERS, "max_wait_s": limits.deadline_s}
    work = Admission(limits.model_copy(update=beside))
    metrics = settings.metrics if settings.metrics.is_dir() else None
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    for api in (
        AnswersApi(answerer, store.completions, limits.max_body_bytes),
        CompletionsApi(store.completions, limits.max_body_bytes),
        ResponsesApi(answerer, store.responses, limits.max_body_bytes),
        ModelsApi(directory),
        EmbeddingsApi(retriever, work, limits.max_body_bytes),
        FilesApi(store.files, work, limits.max_upload_bytes),
        VectorStoresApi(store.vector_stores, retriever, limits.max_body_bytes),
        StoreFilesApi(store.vector_stores, retriever, limits.max_body_bytes),
        FileBatchesApi(store.file_batches, retriever, limits.max_body_bytes),
        SearchApi(store.vector_stores, retriever, rewrite, work, limits.max_body_bytes),
        FineTuningApi(jobs, limits.max_body_bytes),
        AdminApi(store.ledger, store.assistants, directory, limits.max_body_bytes),
        AdaptersApi(store.adapters, store.residencies, work),
        FeedbackApi(
            store.feedback,
            store.ledger,
            store.responses,
            store.completions,
            limits.max_body_bytes,
        ),
        HealthApi(engine, parts, metrics),
        ResidencyApi(store.residencies),
        RolloutsApi(store.assistants, store.outcomes, directory, limits.max_body_bytes),
        PromptApi(engine, grounding_of(settings.engine)),
    ):
        api.register(app)
    errors.install(app)
    app.add_middleware(Edge, authenticate=store.keys.caller, check=answerer.admission.check)
    return app


def _parts(retriever: Retriever) -> Mapping[str, Retriever]:
    """What `/readyz` tells apart."""
    if isinstance(retriever, ShardedRetriever):
        return retriever.parts
    return {"retriever": retriever}


async def _warm(store: Store, affinity: Affinity) -> None:
    """Embeds the adapters' samples now, so that the first question does not wait for it."""
    for tenant in await asyncio.to_thread(store.keys.tenants):
        for assistant in await asyncio.to_thread(store.assistants.list, tenant):
            if assistant.adapter is None:
                continue
            try:
                version = await store.adapters.look_up(tenant, assistant.adapter)
                await affinity.profile(tenant, version.id)
            except ServingError as error:
                log.warning("cannot read %s yet: %s", assistant.adapter, error.message)

"""Fills an empty installation with the demo: a tenant, its key, its assistant and its documents.

Everything here can run again and changes nothing the second time.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import replace
from pathlib import Path

from serving.adapters.adapter import parse_id
from serving.adapters.registry import Registry
from serving.app import Store
from serving.errors import InvalidRequest, UnknownModel
from serving.settings import Settings
from serving.store.keys import PREFIX
from serving.types import AdapterId, Assistant, TenantId, VectorStoreId
from serving.upload.tree import Tree

log = logging.getLogger("engram.demo")
DEMO = Path(__file__).resolve().parent
COMPANY = DEMO / "company"
TENANT = TenantId("demo")
SCOPES = ("inference", "admin")
STORE = "larkfield"
ASSISTANT = "helpdesk"
ADAPTER = AdapterId("helpdesk@1")
# One or two sentences: a model of so few parameters reads those better than whole sections.
CHUNK_TOKENS = 16
INSTRUCTIONS = "You are the assistant of Larkfield."


def seed(settings: Settings, store: Store) -> str:
    """Writes tenant, key, store, adapter and assistant; returns the API key."""
    token = _key(settings.data / "demo-key")
    store.keys.ensure_tenant(TENANT)
    store.keys.register(TENANT, "demo", SCOPES, token)
    adapter = _adapter(store.adapters)
    known = store.assistants.get(TENANT, ASSISTANT)
    if known is None:
        store.assistants.put(
            Assistant(
                name=ASSISTANT,
                tenant=TENANT,
                instructions=INSTRUCTIONS,
                adapter=adapter,
                vector_stores=(_vector_store(store),),
                max_num_results=2,  # what so small a model can tell apart
                sampling={"temperature": 0},
            )
        )
    elif known.adapter is None and adapter is not None:
        store.assistants.put(replace(known, adapter=adapter))
    return token


def documents() -> Tree:
    """The company's documents, without the facts that its tests know."""
    return Tree.of(COMPANY, exclude=("*.json",))


def _key(file: Path) -> str:
    """The same key for every start of one data folder, readable by its owner only."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(PREFIX + secrets.token_urlsafe(32))
    return file.read_text().strip()


def _vector_store(store: Store) -> VectorStoreId:
    for known in store.vector_stores.list(TENANT).items:
        if known.name == STORE:
            return known.id
    return store.vector_stores.create(TENANT, STORE).id


def _adapter(adapters: Registry) -> AdapterId | None:
    """The demo's adapter, published and promoted once; whatever was done to it since stays."""
    name, _ = parse_id(ADAPTER)
    if not any(known == name for known, _ in adapters.versions.numbers(TENANT)):
        try:
            adapters.promote(TENANT, adapters.publish(TENANT, name, DEMO / "adapters" / ADAPTER).id)
        except InvalidRequest as error:
            log.warning("the demo runs without its adapter: %s", error.message)
    try:
        return adapters.find(TENANT, ADAPTER).id
    except UnknownModel:
        return None

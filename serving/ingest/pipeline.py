"""Files into vector stores: parse → chunk → embed → store.

May be killed anywhere. A file's chunks become visible in one transaction together with its
status; until then its row says `in_progress`, and `resume` takes it up again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving import telemetry
from serving.errors import RequestError
from serving.ingest.parsers import parse
from serving.retrieval.chunker import chunk, searchable
from serving.retrieval.embedder import Embedder
from serving.store.chunks import NewChunk
from serving.store.files import Files
from serving.store.vector_stores import FileStatus, VectorStoreFile, VectorStores
from serving.types import TenantId, VectorStoreId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Synchronous, and safe in any thread."""

    files: Files
    stores: VectorStores
    embedder: Embedder
    chunk_tokens: int

    def ingest_file(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        filename: str,
        data: bytes,
        attributes: Mapping[str, Any] | None = None,
    ) -> VectorStoreFile:
        """Makes the store hold this content under this name: again adds nothing, changed content
        takes the place of the old.

        A file that cannot be read is returned as `failed` with its reason.

        Raises:
            NotFound: the tenant has no such store.
        """
        same = self._same(tenant, store_id, filename, data)
        if same is not None:
            return self._with_attributes(same, attributes)
        file = self.files.create(tenant, filename, data)
        self.stores.attach(tenant, store_id, file.id, attributes, replaces=True)
        return self.process(tenant, store_id, file.id)

    def process(self, tenant: TenantId, store_id: VectorStoreId, file_id: str) -> VectorStoreFile:
        """Brings an attached file to `completed` or `failed`; one that is there already stays."""
        file = self.stores.file(tenant, store_id, file_id)
        if file.status is not FileStatus.IN_PROGRESS:
            return file
        try:
            data = self.files.content(tenant, file_id)
            chunks = self._chunks(file.filename, data)
            done = self.stores.complete(tenant, store_id, file_id, self.embedder.name, chunks)
        except RequestError as error:
            done = self.stores.fail(tenant, store_id, file_id, error.message)
        telemetry.INGESTED.labels(done.status).inc()
        return done

    def resume(self) -> int:
        """Processes what a killed process left in progress; returns how many files that were."""
        unfinished = self.stores.unfinished()
        for file in unfinished:
            try:
                self.process(file.tenant, file.vector_store, file.id)
            except RequestError as error:  # deleted meanwhile
                log.warning("not resumed: %s", error.message)
            except Exception:
                log.exception("not resumed: %s", file.id)
        return len(unfinished)

    def _same(
        self, tenant: TenantId, store_id: VectorStoreId, filename: str, data: bytes
    ) -> VectorStoreFile | None:
        sha256 = hashlib.sha256(data).hexdigest()
        newest = next(iter(self.stores.named(tenant, store_id, filename)), None)
        if newest is None or newest.sha256 != sha256:
            return None
        return newest if newest.status is FileStatus.COMPLETED else None

    def _with_attributes(
        self, file: VectorStoreFile, attributes: Mapping[str, Any] | None
    ) -> VectorStoreFile:
        if attributes is None or dict(attributes) == file.attributes:
            return file
        return self.stores.set_attributes(file.tenant, file.vector_store, file.id, attributes)

    def _chunks(self, filename: str, data: bytes) -> list[NewChunk]:
        pieces = chunk(parse(filename, data), self.chunk_tokens)
        vectors = self.embedder.embed([searchable(p.heading_path, p.text) for p in pieces])
        return [
            NewChunk(p.text, p.title, p.heading_path, p.start, p.end, vector)
            for p, vector in zip(pieces, vectors, strict=True)
        ]

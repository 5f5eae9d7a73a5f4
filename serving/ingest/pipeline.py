"""Files into vector stores: parse → chunk → embed → store.

The worker does so for the queue; `Pipeline` does it here and now, without a sandbox, for a process
that has its own documents and wants to wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import RequestError
from serving.ingest.cutting import cut
from serving.ingest.strategy import strategy
from serving.ingest.worker import embedded
from serving.retrieval.embedder import Embedder
from serving.store.files import Files
from serving.store.vector_stores import FileStatus, VectorStoreFile, VectorStores
from serving.types import TenantId, VectorStoreId


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
            pieces = cut(file.filename, data, strategy(file.chunking, self.chunk_tokens))
            chunks = embedded(pieces, self.embedder)
            done = self.stores.complete(tenant, store_id, file_id, self.embedder.name, list(chunks))
        except RequestError as error:
            done = self.stores.fail(tenant, store_id, file_id, error.message)
        return done

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

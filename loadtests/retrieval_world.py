"""A store of many chunks in SQL, as ingest leaves it, and the real retriever over it."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from loadtests.retrieval_data import Corpus, vocabulary
from serving.retrieval.embedder import Embedder, HashingEmbedder, Vectors
from serving.retrieval.local_retriever import LocalRetriever
from serving.settings import ROOT, RetrievalSettings
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.files import Files
from serving.store.keys import Keys
from serving.store.objects import FolderObjects
from serving.store.vector_stores import FileStatus, VectorStores
from serving.types import Search, TenantId, VectorStoreId

TENANT = TenantId("loadtest")
QUESTIONS = 6_000  # more than a retriever remembers
CHUNKS_PER_FILE = 100
MINILM_DIM = 384


class KnownQuestions:
    """Gives each question the vector that was made for it, at no cost: what remains is search."""

    def __init__(self, name: str, questions: Sequence[str], vectors: Vectors) -> None:
        self.name = name
        self.dim = vectors.shape[1]
        self._vectors = dict(zip(questions, vectors, strict=True))
        self._other = HashingEmbedder(self.dim)

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [self._vectors.get(text) for text in texts]
        return np.stack(
            [
                self._other.embed([text])[0] if row is None else row
                for text, row in zip(texts, rows, strict=True)
            ]
        )


@dataclass(frozen=True)
class World:
    """One tenant with one store."""

    corpus: Corpus
    db: Database
    url: str
    folder: Path
    store: VectorStoreId
    questions: Sequence[str]
    known: KnownQuestions

    @property
    def stores(self) -> VectorStores:
        return VectorStores(self.db)

    @property
    def files(self) -> Files:
        return Files(self.db, FolderObjects(self.folder / "objects"))

    @asynccontextmanager
    async def retriever(
        self, embedder: Embedder | None = None, **settings: object
    ) -> AsyncIterator[LocalRetriever]:
        """The real one; with the vectors made for the questions unless an embedder is given."""
        chosen = RetrievalSettings.model_validate(settings)
        async with LocalRetriever(chosen, self.db, embedder or self.known) as retriever:
            yield retriever

    def search(self, question: str, *, consistent: bool = False, limit: int = 5) -> Search:
        return Search(
            tenant=TENANT,
            query=question,
            vector_stores=(self.store,),
            limit=limit,
            consistent=consistent,
        )

    def write(self, name: str, texts: Sequence[str], vectors: Vectors) -> str:
        """Attaches a file and completes it at once, as the worker would; returns its id."""
        file = self.files.create(TENANT, name, name.encode())
        self.stores.attach(TENANT, self.store, file.id, {"number": len(name)})
        chunks = [
            NewChunk(text, name, (name,), 0, len(text), vector)
            for text, vector in zip(texts, vectors, strict=True)
        ]
        self.stores.complete(TENANT, self.store, file.id, self.known.name, chunks)
        return file.id

    def remove(self, file_id: str) -> None:
        self.stores.remove_file(TENANT, self.store, file_id)

    def chunks_of(self, file_id: str) -> int:
        return self.stores.file(TENANT, self.store, file_id).chunks

    def text(self, number: int, words: int) -> str:
        """A document's worth of text, each another."""
        chance, known = random.Random(number), vocabulary()
        return " ".join(chance.choices(known, k=words))

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Callable[[str, str], str]]:
        """The real ingest worker in a process of its own. Gives what attaches a text to it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.retrieval_worker"),
            *(self.url, str(self.folder / "objects"), self.known.name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin and process.stdout
        try:
            if await process.stdout.readline() != b"ready\n":
                raise SystemExit("the ingest worker did not start")
            yield self._attach
        finally:
            process.stdin.close()
            await process.wait()

    def _attach(self, name: str, text: str) -> str:
        file = self.files.create(TENANT, name, text.encode())
        self.stores.attach(TENANT, self.store, file.id)
        return file.id

    async def completed(self, file_id: str) -> None:
        """Waits until the worker has ended a file.

        Raises:
            SystemExit: it could not.
        """
        while True:
            file = await asyncio.to_thread(self.stores.file, TENANT, self.store, file_id)
            if file.status == FileStatus.COMPLETED:
                return
            if file.status != FileStatus.IN_PROGRESS:
                raise SystemExit(f"ingest ended as {file.status}: {file.last_error}")
            await asyncio.sleep(0.01)


@contextmanager
def filled(corpus: Corpus, say: Callable[[str], None]) -> Iterator[World]:
    """A fresh SQLite database with the corpus in it."""
    name = "all-MiniLM-L6-v2" if corpus.dim == MINILM_DIM else HashingEmbedder(corpus.dim).name
    questions = corpus.question_texts(QUESTIONS)
    known = KnownQuestions(name, questions, corpus.questions(QUESTIONS))
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/engram.sqlite"
        db = Database(url)
        db.migrate()
        Keys(db).ensure_tenant(TENANT)
        store = VectorStores(db).create(TENANT, "loadtest").id
        world = World(corpus, db, url, Path(folder), store, questions, known)
        texts, vectors = corpus.texts(), corpus.vectors()
        for first in range(0, corpus.chunks, CHUNKS_PER_FILE):
            part = slice(first, first + CHUNKS_PER_FILE)
            world.write(f"file-{first}.md", texts[part], vectors[part])
        say(f"{corpus.chunks:,} chunks are in SQL")
        yield world
        db.close()

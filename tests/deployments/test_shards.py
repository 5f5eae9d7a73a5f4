"""Two retriever shards behind one gateway, on real Ray Serve and HAProxy.

What must be found is computed by exact search over SQL's rows, in this process and unsharded.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import numpy as np
import psutil
import pytest

from serving.deployments import run as runs
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.local_retriever import LocalRetriever
from serving.retrieval.shard import shard_of
from serving.settings import RetrievalSettings, load
from serving.store.database import Database
from serving.store.models import VectorStoreRow
from serving.types import Search, TenantId, VectorStoreId
from tests.retrieval.truth import chunks
from tests.running import Server, eventually, running

SHARDS = 2
SPLIT_ABOVE = 30  # chunks
LARGE, SMALL = 60, 12  # files, of one chunk each
LIMIT = 10
KILLED = 1
SETTINGS = {
    "ENGRAM_ENGINE__KIND": "scripted",
    "ENGRAM_RETRIEVAL__EMBEDDER": "hashing",
    "ENGRAM_RETRIEVAL__CHUNK_TOKENS": "100",  # a note is one chunk
    "ENGRAM_RETRIEVAL__SHARDS": str(SHARDS),
    "ENGRAM_RETRIEVAL__SPLIT_CHUNKS": str(SPLIT_ABOVE),
    "ENGRAM_RETRIEVAL__SNAPSHOT_EVERY": "1",  # the whole is given up once the parts are in one
}
WORDS = [f"{first}{last}" for first in ("bal", "cor", "dun", "fer") for last in "abcdefghijklm"]
BY_MEANING = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
pytestmark = pytest.mark.timeout(300)

Place = tuple[str, int]  # a chunk's file, and where it begins there


def note(chance: random.Random) -> str:
    """One chunk of few words, so that every note is a candidate for every question."""
    return " ".join(chance.choices(WORDS, range(1, len(WORDS) + 1), k=chance.randrange(50, 90)))


@dataclass
class Cluster:
    server: Server
    client: httpx.Client
    db: Database
    large: str  # this store is split
    small: Sequence[str]  # the one at n is whole, on shard n

    def post(self, path: str, **body: object) -> dict[str, object]:
        answer: dict[str, object] = self.client.post(path, json=body).raise_for_status().json()
        return answer

    def put(self, store: str, texts: Sequence[str]) -> list[str]:
        """Uploads files and returns when they are ready to be found."""
        uploads = [{"file": (f"{n}.md", text.encode())} for n, text in enumerate(texts)]
        files = [
            str(
                self.client.post("/files", files=upload, data={"purpose": "assistants"}).json()[
                    "id"
                ]
            )
            for upload in uploads
        ]
        batch = f"/vector_stores/{store}/file_batches"
        batch += f"/{self.post(batch, file_ids=files)['id']}"
        done = {"in_progress": 0, "completed": len(files), "failed": 0, "cancelled": 0}
        counts: dict[str, int] = {}

        def is_done() -> bool:
            counts.update(self.client.get(batch).raise_for_status().json()["file_counts"])
            return not counts["in_progress"]

        eventually(is_done, within_s=60)
        assert counts == done | {"total": len(files)}
        return files

    def _upload(self, name: str, text: str) -> str:
        file, purpose = {"file": (name, text.encode())}, {"purpose": "assistants"}
        answer = self.client.post("/files", files=file, data=purpose).raise_for_status()
        return str(answer.json()["id"])

    def ask(self, store: str, query: str, **body: object) -> httpx.Response:
        """A search whose order is that of the vectors alone, unless told otherwise."""
        body = {"query": query, "max_num_results": LIMIT, "ranking_options": BY_MEANING} | body
        return self.client.post(f"/vector_stores/{store}/search", json=body)

    def found(self, store: str, query: str, **body: object) -> list[Place]:
        return places(self.ask(store, query, **body))

    @property
    def tenant(self) -> TenantId:
        with self.db.snapshot() as session:
            return TenantId(session.get_one(VectorStoreRow, self.large).tenant)

    def chunks_on(self, shard: int) -> float:
        """As the shard's replica counts them."""
        line = f'engram_index_chunks{{shard="{shard}/{SHARDS}"}} '
        url = self.server.base_url.removesuffix("/v1") + "/metrics"
        lines = self.client.get(url).raise_for_status().text.splitlines()
        return sum(float(text.removeprefix(line)) for text in lines if text.startswith(line))

    def assert_exact(self, store: str, query: str, found: Sequence[Place]) -> None:
        """These are the nearest of all chunks that SQL has, in order; of equal ones any."""
        rows = [row for row in chunks(self.db) if row.store == store]
        scores = np.stack([row.embedding for row in rows]) @ HashingEmbedder().embed([query])[0]
        score_of = {
            (row.file_id, row.start): score for row, score in zip(rows, scores, strict=True)
        }
        assert len(set(found)) == len(found) == min(LIMIT, len(rows))
        best = np.sort(scores)[::-1][:LIMIT]
        np.testing.assert_allclose([score_of[place] for place in found], best, atol=1e-6)


def places(answer: httpx.Response) -> list[Place]:
    hits = answer.raise_for_status().json()["data"]
    return [(hit["file_id"], hit["engram"]["start"]) for hit in hits]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("shards")
    with running(data, SETTINGS) as server, server.client() as client:
        db = Database(load({"ENGRAM_DATA": str(data)}).sql_url)
        made = Cluster(server, client, db, *_stores(client))
        chance = random.Random("notes")
        made.put(made.large, [note(chance) for _ in range(LARGE)])
        for store in made.small:
            made.put(store, [note(chance) for _ in range(SMALL)])
        yield made
        db.close()


def _stores(client: httpx.Client) -> tuple[str, Sequence[str]]:
    """One to become large, and one for each shard to have alone."""

    def create(name: str) -> str:
        answer = client.post("/vector_stores", json={"name": name}).raise_for_status()
        return str(answer.json()["id"])

    by_shard: dict[int, str] = {}
    while len(by_shard) < SHARDS:
        store = create("small")
        by_shard[shard_of(store, SHARDS)] = store
    return create("large"), [by_shard[number] for number in range(SHARDS)]


def questions() -> list[str]:
    chance = random.Random("questions")
    return [" ".join(chance.choices(WORDS, k=20)) for _ in range(10)]


def test_a_store_that_grew_is_spread(cluster: Cluster) -> None:
    """Each shard has its part; `engram_index_chunks` counts them. The shard with the whole gives
    up what the other has by then, at the latest at its next start; when is not promised."""
    rows = chunks(cluster.db)
    of_large = [shard_of(row.file_id, SHARDS) for row in rows if row.store == cluster.large]
    assert len(of_large) > SPLIT_ABOVE and set(of_large) == {*range(SHARDS)}

    def is_there() -> bool:
        held = [cluster.chunks_on(shard) for shard in range(SHARDS)]
        parts = [of_large.count(shard) + SMALL for shard in range(SHARDS)]
        return all(have >= part for have, part in zip(held, parts, strict=True))

    eventually(is_there, within_s=90)


def test_a_search_finds_what_one_exact_search_over_everything_finds(cluster: Cluster) -> None:
    for store in (cluster.large, *cluster.small):
        for question in questions():
            cluster.assert_exact(store, question, cluster.found(store, question))


async def test_with_words_a_whole_store_is_found_as_by_one_retriever(cluster: Cluster) -> None:
    settings = RetrievalSettings(embedder="hashing", index="flat", poll_interval_s=1e6)
    async with LocalRetriever(settings, cluster.db) as one:
        for store in cluster.small:
            for question in questions():
                expected = await one.search(
                    Search(cluster.tenant, question, (VectorStoreId(store),), LIMIT)
                )
                found = await asyncio.to_thread(cluster.found, store, question, ranking_options={})
                assert found == [(p.file_id, p.start) for p in expected.passages]


def test_the_next_search_sees_an_added_file_and_no_deleted_one(cluster: Cluster) -> None:
    chance, added = random.Random("added"), dict[int, tuple[str, str]]()
    while len(added) < SHARDS:  # whichever shard a file falls to
        [file] = cluster.put(cluster.large, [text := note(chance)])
        found = cluster.found(cluster.large, text)
        assert found[0][0] == file
        cluster.assert_exact(cluster.large, text, found)
        added[shard_of(file, SHARDS)] = file, text
    for file, text in added.values():
        cluster.client.delete(f"/files/{file}").raise_for_status()
        found = cluster.found(cluster.large, text)
        assert file not in dict(found)
        cluster.assert_exact(cluster.large, text, found)


def test_while_a_killed_shard_is_replaced_an_answer_is_whole_or_an_error(cluster: Cluster) -> None:
    """Searches of what the other shard has alone go on."""
    [question, *_] = questions()
    stores = (cluster.large, *cluster.small)
    victim = shard_process(cluster, KILLED)
    back = threading.Event()

    def ask_until_back(store: str) -> list[httpx.Response]:
        answers = []
        while not back.is_set():
            answers.append(cluster.ask(store, question))
        return answers

    with ThreadPoolExecutor() as pool:
        asking = {store: pool.submit(ask_until_back, store) for store in stores}
        try:
            victim.kill()
            eventually(lambda: is_replaced(cluster.server, victim.pid), within_s=60)
        finally:
            back.set()
    for store in stores:
        for answer in asking[store].result():
            if answer.status_code == 503:
                assert_away(answer)
            else:
                cluster.assert_exact(store, question, places(answer))
        cluster.assert_exact(store, question, cluster.found(store, question))
    unhurt = asking[cluster.small[1 - KILLED]].result()
    assert {answer.status_code for answer in unhurt} == {200}


def is_replaced(server: Server, pid: int) -> bool:
    name = f"retriever-{KILLED}"
    replica = server.replica(name)
    return (
        replica is not None and replica.pid != pid and runs.readiness(server.run).get(name, False)
    )


def test_a_shard_that_hangs_fails_the_search_and_no_part_is_answered(cluster: Cluster) -> None:
    [question, *_] = questions()
    hanging = shard_process(cluster, KILLED)
    hanging.suspend()
    try:
        assert_away(cluster.ask(cluster.large, question))
        unhurt = cluster.small[1 - KILLED]
        cluster.assert_exact(unhurt, question, cluster.found(unhurt, question))
    finally:
        hanging.resume()
    cluster.assert_exact(cluster.large, question, cluster.found(cluster.large, question))


def shard_process(cluster: Cluster, shard: int) -> psutil.Process:
    process = cluster.server.replica(f"retriever-{shard}")
    assert process is not None
    return process


def assert_away(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "retriever_unavailable")
    assert f"shard {KILLED}" in error["message"]
    assert int(answer.headers["retry-after"]) >= 1

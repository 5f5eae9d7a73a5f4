"""The real sentence model, end to end over a few documents."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from serving.retrieval.minilm_embedder import MAX_TOKENS, MiniLmEmbedder, _packaged, batches
from serving.retrieval.minilm_model import MiniLm
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, World, make_world


@pytest.fixture(scope="module")
def embedder() -> MiniLmEmbedder:
    return MiniLmEmbedder(threads=1)


@pytest.fixture(scope="module")
def filled(embedder: MiniLmEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    for world in make_world(tmp_path_factory.mktemp("minilm")):
        for name, data in (("leave.md", LEAVE), ("canteen.md", CANTEEN)):
            world.pipeline(embedder).ingest_file(ACME, world.store, name, data)
        yield world


async def test_covered_questions_score_high_and_others_low(
    filled: World, embedder: MiniLmEmbedder
) -> None:
    covered = {
        "How many vacation days do I get?": "Every employee has 30 days",
        "Who can I ask about parental leave?": "Parental leave must be asked",
        "What time can I have lunch at the canteen?": "The canteen opens at noon",
    }
    others = [
        "What is the capital of France?",
        "Hello, how are you?",
        "Write a poem about the sea.",
    ]
    async with filled.retriever(embedder) as retriever:
        good = [await retriever.search(filled.search(q)) for q in covered]
        bad = [await retriever.search(filled.search(q)) for q in others]
    for found, text in zip(good, covered.values(), strict=True):
        assert found.passages[0].text.startswith(text)
    assert max(found.passages[0].score for found in bad) < 0.2
    assert min(found.passages[0].score for found in good) > 0.3


def test_batches_and_threads_do_not_change_a_vector(embedder: MiniLmEmbedder) -> None:
    texts = [f"{'word ' * (n % 40)}number {n}" for n in range(40)]
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts[:5]])
    assert ((together[:5] * alone).sum(axis=1) > 0.9995).all()  # half precision, where it is native
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


def test_the_model_is_the_one_that_transformers_runs() -> None:
    folder = _packaged()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    reference = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    texts = ["", "Où est le café?", "word " * 400, "How many days of leave do I get?", "日本語 🙂"]
    tokens = [tokenizer(text, truncation=True, max_length=MAX_TOKENS).input_ids for text in texts]
    found = MiniLm(folder / "model.safetensors", torch.float32)(tokens)
    for row, ids in zip(found, tokens, strict=True):
        with torch.inference_mode():
            expected = reference(torch.tensor([ids])).last_hidden_state.mean(1)[0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)
    vectors = MiniLmEmbedder(threads=1).embed(texts)
    unit_rows = torch.nn.functional.normalize(found, dim=1).numpy()
    assert ((vectors * unit_rows).sum(axis=1) > 0.9995).all()  # the same tokens, half precision


def test_many_threads_may_embed_at_once(embedder: MiniLmEmbedder) -> None:
    texts = [f"text number {n} " * (n + 1) for n in range(8)]
    alone = [embedder.embed([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: embedder.embed([text])[0], texts * 4))
    for row, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_it_limits_only_the_threads_that_embed(embedder: MiniLmEmbedder) -> None:
    def embed_and_count() -> int:
        embedder.embed(["text"])
        return torch.get_num_threads()

    before = in_a_new_thread(torch.get_num_threads)
    assert in_a_new_thread(embed_and_count) == 1
    assert in_a_new_thread(torch.get_num_threads) == before


def in_a_new_thread(count: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(count).result()


def test_a_text_over_the_limit_is_cut(embedder: MiniLmEmbedder) -> None:
    long, longer = embedder.embed(["word " * 400, "word " * 900])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_texts_of_any_lengths_meet_in_few_shapes_and_none_is_lost() -> None:
    choose = random.Random(0)
    shapes = set()
    for _ in range(300):
        lengths = [choose.randint(1, MAX_TOKENS) for _ in range(choose.randint(0, 100))]
        made = list(batches(lengths))
        assert sorted(n for _, batch in made for n in batch) == list(range(len(lengths)))
        assert all(lengths[n] <= length for length, batch in made for n in batch)
        shapes |= {(length, len(batch)) for length, batch in made}
    assert len(shapes) <= 80


_EMBED_ALL_LENGTHS = """
import psutil
from serving.retrieval.minilm_embedder import MiniLmEmbedder
embedder = MiniLmEmbedder(threads=1)
before = psutil.Process().memory_info().rss
for length in range(1, 250, 3):
    embedder.embed(["word " * length])
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


def test_memory_does_not_grow_with_the_lengths_it_has_seen() -> None:
    grown = subprocess.run(
        [sys.executable, "-c", _EMBED_ALL_LENGTHS], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 150  # MiB; with a shape for each length 250, and more with more

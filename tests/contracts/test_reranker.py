"""What every reranker keeps: the exact one, a cross-encoder in process, one behind `/score`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from serving.errors import RetrievalFailed
from serving.retrieval.reranker import Reranker, ScoreEndpoint, WordReranker, create_reranker
from serving.settings import RetrievalSettings

QUERY = "How many days of annual leave?"
TEXTS = ["Thirty days of annual leave.", "The canteen opens at noon.", "Leave", "days " * 900]


def write_cross_encoder(folder: Path, outputs: int = 1) -> Path:
    """A tiny random BERT that reads pairs; its scores mean nothing, but are its own."""
    torch.manual_seed(0)
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core.train_from_iterator(
        [*TEXTS, QUERY], trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=128,
    ).save_pretrained(folder)  # fmt: skip
    config = BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128, num_labels=outputs,
        initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "cross-encoder")


async def scored_by_words(request: httpx.Request) -> httpx.Response:
    """Answers as vLLM's `/score` does."""
    body = json.loads(request.content)
    scores = await WordReranker().scores(body["text_1"], body["text_2"])
    rows = [{"index": n, "object": "score", "score": score} for n, score in enumerate(scores)]
    return httpx.Response(200, json={"object": "list", "data": rows[::-1]})


@pytest_asyncio.fixture(params=["words", "cross-encoder", "endpoint"])
async def reranker(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Reranker]:
    made: Reranker | None
    if request.param == "endpoint":
        client = httpx.AsyncClient(transport=httpx.MockTransport(scored_by_words))
        made = ScoreEndpoint("http://reranker/score", client)
    else:
        name = str(folder) if request.param == "cross-encoder" else request.param
        made = create_reranker(RetrievalSettings(reranker=name))
    assert made is not None
    yield made
    await made.close()


async def test_there_is_one_score_per_text_in_order(reranker: Reranker) -> None:
    scores = await reranker.scores(QUERY, TEXTS)
    backwards = await reranker.scores(QUERY, TEXTS[::-1])
    assert scores == pytest.approx(backwards[::-1], abs=1e-5)
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) > 1
    assert await reranker.scores(QUERY, []) == []


async def test_a_score_does_not_depend_on_the_other_texts(reranker: Reranker) -> None:
    scores = await reranker.scores(QUERY, TEXTS)
    alone = [(await reranker.scores(QUERY, [text]))[0] for text in TEXTS]
    assert scores == pytest.approx(alone, abs=1e-5)


async def test_searches_at_once_get_each_their_own_scores(reranker: Reranker) -> None:
    alone = [await reranker.scores(text, TEXTS) for text in TEXTS[:3]]
    together = await asyncio.gather(*(reranker.scores(text, TEXTS) for text in TEXTS[:3]))
    for left, right in zip(alone, together, strict=True):
        assert left == pytest.approx(right, abs=1e-5)


async def test_the_cross_encoder_scores_as_transformers_does(folder: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.inference_mode():
        logit = model(**tokenizer(QUERY, TEXTS[0], return_tensors="pt")).logits[0, 0]
    made = create_reranker(RetrievalSettings(reranker=str(folder)))
    assert made is not None
    assert (await made.scores(QUERY, TEXTS[:1]))[0] == pytest.approx(torch.sigmoid(logit).item())
    await made.close()


def test_a_model_that_is_no_reranker_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RetrievalFailed, match="cannot be loaded"):
        create_reranker(RetrievalSettings(reranker=str(tmp_path / "nothing")))
    classifier = write_cross_encoder(tmp_path / "classifier", outputs=3)
    with pytest.raises(RetrievalFailed, match="3 outputs"):
        create_reranker(RetrievalSettings(reranker=str(classifier)))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, text="no JSON"),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"data": [{"index": 0}]}),
    ],
)
async def test_an_endpoint_that_does_not_score_is_an_error(answer: httpx.Response) -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer))
    with pytest.raises(RetrievalFailed, match="reranker"):
        await ScoreEndpoint("http://reranker/score", client).scores(QUERY, TEXTS)

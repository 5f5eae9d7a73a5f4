"""`/v1/embeddings`: the embedder that retrieval uses."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from serving.admission import Admission
from serving.api.request import caller_of, read_json
from serving.errors import InvalidRequest, UnknownModel
from serving.retrieval.retriever import Retriever

MODEL = "all-MiniLM-L6-v2"
MAX_INPUTS = 2048


class EmbeddingsApi:
    def __init__(self, retriever: Retriever, admission: Admission, max_body_bytes: int) -> None:
        self._retriever = retriever
        self._admission = admission
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/v1/embeddings", self.create, methods=["POST"])

    async def create(self, request: Request) -> Response:
        body = await read_json(request, self._max_body_bytes)
        texts = _inputs(body.get("input"))
        if body.get("model") != MODEL:
            raise UnknownModel(f"the embedding model here is '{MODEL}'", param="model")
        encode = _encoder(body.get("encoding_format") or "float")
        async with self._admission.admit(caller_of(request)):
            vectors = await self._retriever.embed(texts)
        tokens = sum(len(text.split()) for text in texts)
        answer = {
            "object": "list",
            "model": MODEL,
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Response(orjson.dumps(answer), media_type="application/json")


def _inputs(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise InvalidRequest("'input' must be a string or a list of strings", param="input")
    if len(texts) > MAX_INPUTS:
        raise InvalidRequest(f"'input' holds more than {MAX_INPUTS} texts", param="input")
    if not all(texts):
        raise InvalidRequest("'input' holds an empty string", param="input")
    return texts


def _encoder(name: Any) -> Any:
    if name == "float":
        return list
    if name == "base64":
        return _base64
    raise InvalidRequest("'encoding_format' must be float or base64", param="encoding_format")


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()

"""`/admin/prompt`: what the server writes around passages, so that training files are rendered
as it serves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.generation.prompt import Model
from serving.types import Assistant, TenantId

DEFAULT = Assistant("", TenantId(""))


class PromptApi:
    def __init__(self, model: Model, grounding: str) -> None:
        self._model = model
        self._grounding = grounding

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/admin/prompt", self.get, methods=["GET"])

    async def get(self) -> dict[str, Any]:
        return {
            "object": "prompt",
            "grounding": self._grounding,
            "special_tokens": list(self._model.special_tokens),
            "max_model_len": self._model.max_model_len,
            "max_num_results": DEFAULT.max_num_results,
        }

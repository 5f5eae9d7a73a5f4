"""Reads votes from a running server, and what stood before the answers that were voted on."""

from __future__ import annotations

from typing import Any

from serving.finetune.preferences import Context
from serving.finetune.server import Prompting, Server
from serving.remote import ServerError
from serving.store.feedback import DOWN, UP, Vote
from serving.types import Mode, TenantId, message_text

INLINE = "its passages came inside the request and are not kept"
GONE = "a search of its stores finds nothing any more"


def read(server: Server, assistant: str | None, adapter: str | None) -> list[Vote]:
    """Every vote on this assistant and version, oldest first."""
    wanted = {"assistant": assistant, "adapter": adapter, "order": "asc"}
    given = {name: value for name, value in wanted.items() if value is not None}
    return [_vote(row) for row in server.pages("/admin/feedback", **given)]


def _vote(row: dict[str, Any]) -> Vote:
    return Vote(
        TenantId(""),
        row["response_id"],
        UP if row["rating"] == "up" else DOWN,
        row["comment"],
        row["better_answer"],
        row["messages"],
        row["answer"],
        row["assistant"],
        row["adapter"],
        row["mode"],
        row["created_at"],
    )


class Contexts:
    """Looks up how the server prompts for each answer. Passages are searched for again, since no
    record holds their text."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._assistants = {str(row["name"]) for row in server.pages("/admin/assistants")}

    def of(self, vote: Vote) -> Context | str:
        """What stood before the conversation, or why that cannot be known."""
        known = vote.assistant if vote.assistant in self._assistants else None
        how = self._server.prompting(known)
        if vote.mode is None or vote.mode not in (Mode.RAG, Mode.HYBRID):
            return Context(how.instructions, (), how.grounding, how.special_tokens)
        try:
            passages = self._passages(vote, how)
        except ServerError:
            return GONE
        if isinstance(passages, str):
            return passages
        return Context(how.instructions, passages, how.grounding, how.special_tokens)

    def _passages(self, vote: Vote, how: Prompting) -> list[tuple[str, str]] | str:
        record = self._server.call("GET", f"/admin/decisions/req-{vote.response[-32:]}")
        if not record["stores"]:
            return INLINE
        asked = [m for m in vote.messages or () if m.get("role") == "user"]
        query = message_text(asked[-1]) if asked else ""
        found = [
            hit
            for store in record["stores"]
            for hit in self._server.search(store, query, how.passages)
        ]
        best = sorted(found, key=lambda hit: -hit.score)[: how.passages]
        return [(hit.label, hit.text) for hit in best] or GONE

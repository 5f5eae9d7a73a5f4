"""What the commands read from a running server: a store's chunks, its search, and how it prompts.

Over the public API, so that what is trained on is what would be served, wherever the server runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.remote import RemoteServer, ServerError
from serving.types import Passage

QUERY_CHARS = 600  # of a chunk's text, to find the chunk itself


@dataclass(frozen=True, slots=True)
class StoreFile:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the server writes a prompt for an assistant."""

    instructions: str
    grounding: str
    special_tokens: Sequence[str]
    passages: int  # an answer's, at most


class Server(RemoteServer):
    """Stores, searches and prompts over the public API."""

    def store(self, name_or_id: str) -> str:
        for row in self.pages("/v1/vector_stores"):
            if name_or_id in (row["id"], row["name"]):
                return str(row["id"])
        raise ServerError(f"there is no vector store '{name_or_id}'")

    def files(self, store: str) -> list[StoreFile]:
        """The searchable files, by name."""
        rows = self.pages(f"/v1/vector_stores/{store}/files", filter="completed")
        files = [StoreFile(row["id"], row["engram"]["filename"]) for row in rows]
        return sorted(files, key=lambda file: (file.name, file.id))

    def chunks(self, store: str, file: StoreFile) -> list[Passage]:
        """A file's chunks as a search finds them; what no search finds is left out."""
        content = self.call("GET", f"/v1/vector_stores/{store}/files/{file.id}/content")
        found: dict[str, Passage] = {}
        for part in content["data"]:
            text = part["text"].strip()
            for hit in self.search(store, text[:QUERY_CHARS]) if text else ():
                if hit.file_id == file.id and text in hit.text:
                    found.setdefault(hit.id, hit)
                    break
        return sorted(found.values(), key=lambda passage: passage.start)

    def search(self, store: str, query: str, limit: int = 10) -> tuple[Passage, ...]:
        """The live hybrid search, best first."""
        body = {"query": query, "max_num_results": limit}
        rows = self.call("POST", f"/v1/vector_stores/{store}/search", json=body)["data"]
        return tuple(map(_passage, rows))

    def prompting(self, assistant: str | None) -> Prompting:
        """How the server would prompt for this assistant, or for none."""
        shown = self.call("GET", "/admin/prompt")
        about = self.call("GET", f"/admin/assistants/{assistant}") if assistant else {}
        return Prompting(
            about.get("instructions", ""),
            shown["grounding"],
            shown["special_tokens"],
            about.get("max_num_results", shown["max_num_results"]),
        )


def _passage(row: Mapping[str, Any]) -> Passage:
    where = row["engram"]
    return Passage(
        f"{row['file_id']}-{where['start']}",
        "\n".join(part["text"] for part in row["content"]),
        row["filename"],
        row["file_id"],
        heading_path=(where["heading"],),
        start=where["start"],
        end=where["end"],
        score=row["score"],
    )

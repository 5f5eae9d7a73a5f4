"""Documents that come inside a request: cut, embedded and searched for it alone."""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import InvalidRequest
from serving.retrieval.chunker import chunk, parse_plain, searchable
from serving.retrieval.embedder import Embedder
from serving.retrieval.index import ExactIndex
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.shelf import Shelf
from serving.retrieval.tantivy_lexical import stems
from serving.types import Document, Passage

MAX_INLINE_CHUNKS = 256


def inline_shelf(documents: Sequence[Document], embedder: Embedder, chunk_tokens: int) -> Shelf:
    """A shelf for one request.

    Raises:
        InvalidRequest: the documents are too long to be searched inside a request.
    """
    shelf = Shelf(ExactIndex(embedder.dim), ExactLexical(stems))
    passages = dict(enumerate(p for document in documents for p in _cut(document, chunk_tokens)))
    if len(passages) > MAX_INLINE_CHUNKS:
        raise InvalidRequest(
            f"The documents make {len(passages)} chunks; at most {MAX_INLINE_CHUNKS} are "
            "searched inside a request. Put them in a vector store.",
            param="documents",
        )
    if passages:
        texts = [searchable(p.heading_path, p.text) for p in passages.values()]
        shelf.add_words(passages)
        shelf.add(passages, embedder.embed(texts))
    return shelf


def _cut(document: Document, chunk_tokens: int) -> list[Passage]:
    title = document.title or document.id
    return [
        Passage(
            id=f"{document.id}-{n}",
            text=piece.text,
            filename=title,
            file_id=document.id,
            title=piece.title,
            heading_path=piece.heading_path,
            start=piece.start,
            end=piece.end,
        )
        for n, piece in enumerate(chunk(parse_plain(document.text, title), chunk_tokens))
    ]

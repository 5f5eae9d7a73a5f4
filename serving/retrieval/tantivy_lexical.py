"""BM25 by tantivy, in memory. The one module that imports it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Set
from functools import lru_cache
from itertools import islice

from tantivy import (
    Document,
    Filter,
    Index,
    Occur,
    Query,
    SchemaBuilder,
    Searcher,
    TextAnalyzerBuilder,
    Tokenizer,
)

from serving.retrieval.lexical import STOP_WORDS, weigh

WRITER_BYTES = 15_000_000  # the least tantivy accepts
MAX_WORD_LENGTH = 40
FEW_KEYS = 1_000
QUERIES_REMEMBERED = 64  # a search asks several times
WIDE_SHARE = 16  # a filter that passes a sixteenth is searched by widening
_ANALYZER = (
    TextAnalyzerBuilder(Tokenizer.simple())
    .filter(Filter.remove_long(MAX_WORD_LENGTH))
    .filter(Filter.lowercase())
    .filter(Filter.ascii_fold())
    .filter(Filter.custom_stopword(sorted(STOP_WORDS)))
    .filter(Filter.stemmer("english"))
    .build()
)


@lru_cache(maxsize=QUERIES_REMEMBERED)
def stems(text: str) -> tuple[str, ...]:
    """Lower-case stems without accents and stop words."""
    return tuple(_ANALYZER.analyze(text))


class TantivyLexical:
    """One index per vector store. A query is built term by term, so nothing in it is syntax."""

    def __init__(self) -> None:
        builder = SchemaBuilder()
        builder.add_integer_field("key", indexed=True, fast=True)
        builder.add_text_field("text", tokenizer_name="stems", index_option="freq")
        self._schema = builder.build()
        self._index = Index(self._schema)
        self._index.register_tokenizer("stems", _ANALYZER)
        self._writing = threading.Lock()

    def add(self, texts: Mapping[int, str]) -> None:
        self._write(texts.keys(), texts)

    def remove(self, keys: Collection[int]) -> None:
        self._write(keys, {})

    def _write(self, removed: Collection[int], added: Mapping[int, str]) -> None:
        """A writer lives only as long as it writes: its threads and buffers are for the few
        stores that change, not for all that exist."""
        with self._writing:
            writer = self._index.writer(WRITER_BYTES, num_threads=1)
            for key in removed:
                writer.delete_documents_by_term("key", key)
            for key, text in added.items():
                document = Document()
                document.add_integer("key", key)
                document.add_text("text", text)
                writer.add_document(document)
            writer.commit()
            writer.wait_merging_threads()
            self._index.reload()

    def search(
        self, query: str, k: int, allowed: Collection[int] | None = None
    ) -> dict[int, float]:
        searcher = self._index.searcher()
        weights = self._weights(searcher, query)
        if not weights or k < 1:
            return {}
        terms = [(Occur.Should, self._term(term)) for term in weights]
        return self._best(searcher, Query.boolean_query(terms), k, allowed)

    def coverage(self, query: str, keys: Collection[int]) -> dict[int, float]:
        searcher = self._index.searcher()
        weights = self._weights(searcher, query)
        if not weights or not keys:
            return {}
        terms = [
            (Occur.Should, Query.const_score_query(self._term(term), weight))
            for term, weight in weights.items()
        ]
        mass = self._run(
            searcher, Query.boolean_query([(Occur.Must, self._among(keys)), *terms]), len(keys)
        )
        best = sum(weights.values())
        return {key: min(1.0, found / best) for key, found in mass.items() if found > 0}

    def _best(
        self, searcher: Searcher, ranked: Query, k: int, allowed: Collection[int] | None
    ) -> dict[int, float]:
        if allowed is None:
            return self._run(searcher, ranked, k)
        if len(allowed) * WIDE_SHARE >= searcher.num_docs:
            found = self._widened(searcher, ranked, k, allowed)
            if found is not None:
                return found
        ranked = Query.boolean_query([(Occur.Must, ranked), (Occur.Must, self._among(allowed))])
        return self._run(searcher, ranked, k)

    def _widened(
        self, searcher: Searcher, ranked: Query, k: int, allowed: Collection[int]
    ) -> dict[int, float] | None:
        """More than k of all, and of these the first k allowed; None where they are too few. The
        result is the same as by a query for 100,000 keys, which takes fifty times as long."""
        wide = 4 * k * max(1, searcher.num_docs // max(1, len(allowed)))
        found = self._run(searcher, ranked, wide)
        keys = allowed if isinstance(allowed, Set) else frozenset(allowed)
        passing = {key: bm25 for key, bm25 in found.items() if key in keys}
        if len(passing) < k and len(found) == wide:
            return None
        return dict(islice(passing.items(), k))

    def _weights(self, searcher: Searcher, query: str) -> dict[str, float]:
        return weigh(stems(query), searcher.num_docs, lambda term: searcher.doc_freq("text", term))

    def _term(self, term: str) -> Query:
        return Query.term_query(self._schema, "text", term, "freq")

    def _among(self, keys: Collection[int]) -> Query:
        """Lets through these keys and adds nothing to the score. A set of terms builds an automaton
        in every segment; a few keys are looked up in a third of the time."""
        if len(keys) <= FEW_KEYS:
            one_of = [(Occur.Should, Query.term_query(self._schema, "key", key)) for key in keys]
            query = Query.boolean_query(one_of)
        else:
            query = Query.term_set_query(self._schema, "key", list(keys))
        return Query.const_score_query(query, 0.0)

    def _run(self, searcher: Searcher, query: Query, limit: int) -> dict[int, float]:
        hits = searcher.search(query, limit, count=False).hits
        keys = searcher.fast_field_values("key", [address for _, address in hits])
        return {
            int(key): score for key, (score, _) in zip(keys, hits, strict=True) if key is not None
        }

"""The values that cross module boundaries, in the order a request meets them.

Frozen, without behaviour beyond derived properties. Knows nothing of HTTP, Ray, vLLM or FAISS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NewType

TenantId = NewType("TenantId", str)
VectorStoreId = NewType("VectorStoreId", str)
AdapterId = NewType("AdapterId", str)  # immutable, written `name@version`

# Why a file in a vector store failed, as in OpenAI's API.
FileErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]

Message = Mapping[str, Any]  # one OpenAI chat message, kept as the client sent it


class Mode(StrEnum):
    """How one request is answered."""

    BASE = "base"
    RAG = "rag"
    FINE_TUNED = "fine_tuned"
    HYBRID = "hybrid"

    @property
    def retrieves(self) -> bool:
        """Whether passages go into the prompt."""
        return self in (Mode.RAG, Mode.HYBRID)

    @property
    def adapts(self) -> bool:
        """Whether a LoRA adapter generates the answer."""
        return self in (Mode.FINE_TUNED, Mode.HYBRID)


class Fallback(StrEnum):
    """Who answers when the assistant's adapter cannot be loaded."""

    PREVIOUS = "previous"  # the version that the name or the rollout had before
    BASE = "base"
    ERROR = "error"


class VersionState(StrEnum):
    """Where a version of an adapter stands in its life; who may go where is in
    `adapters/lifecycle.py`."""

    STAGED = "staged"  # answers to its own name and in rollouts
    PROMOTED = "promoted"  # also what the bare name means
    RETIRED = "retired"  # takes no new requests
    DELETED = "deleted"  # only its number is kept


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of an adapter in the object store."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable version of a tenant's adapter; times are Unix seconds.

    `manifest` has every file by its name. `base_fingerprint` is known if its training wrote it
    down. `model` is the name that a fine-tuning job gave it (`ft:…`).
    """

    tenant: TenantId
    name: str
    version: int
    state: VersionState
    sha256: str  # of the weights
    manifest: Mapping[str, StoredFile]
    base_model: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    created_at: int
    changed_at: int  # when it came into its state
    base_fingerprint: str | None = None
    pinned: bool = False
    model: str | None = None
    job: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> AdapterId:
        return AdapterId(f"{self.name}@{self.version}")

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.manifest.values())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant behind an API key and what the key may do."""

    tenant: TenantId
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Document:
    """A document the client sent inside the request."""

    text: str
    id: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """The optional `engram` field of a request. `mode=None` leaves the choice to the policy.

    `search_tool`: the request brought OpenAI's `file_search`; a model that is fixed to one mode
    may then search, or must. `truncate`: the oldest turns go where the conversation is too long.
    """

    mode: Mode | None = None
    vector_store_ids: tuple[VectorStoreId, ...] | None = None  # None: the assistant's own
    documents: tuple[Document, ...] = ()
    max_num_results: int | None = None
    filters: Mapping[str, Any] | None = None
    score_threshold: float | None = None
    rewrite_query: bool = True
    expand_tokens: int = 0
    rerank: bool = False
    consistent: bool = False
    weights: Mapping[str, float] | None = None  # of the `dense` and the `lexical` ranking
    search_tool: Literal["offered", "required"] | None = None
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One request as the request path sees it.

    `messages` is empty for a plain completion, whose text is `completion_prompt`.
    `sampling` holds every other OpenAI field untouched (temperature, n, stop, tools, …).
    """

    id: str
    model: str
    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    options: Options = Options()
    completion_prompt: str | None = None
    deadline_s: float | None = None
    endpoint: str = "chat"  # for logs and metrics
    conversation: str = ""  # what the request calls its user or conversation, if it does

    @property
    def text(self) -> str:
        """The words to retrieve with: the last user message, or the completion prompt."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return message_text(message)
        return self.completion_prompt or ""


def message_text(message: Message) -> str:
    """The text of one chat message, whose content is a string or a list of typed parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


@dataclass(frozen=True, slots=True)
class Policy:
    """An assistant's thresholds for choosing a mode; all scores are in [0, 1]."""

    min_retrieval: float = 0.40  # at or above: the best passage covers the question
    min_support: float = 0.30  # at or above: close enough to ask the model whether it does
    min_affinity: float = 0.85  # at or above: the adapter was trained for such questions


@dataclass(frozen=True, slots=True)
class Assistant:
    """What an app names in `model`: prompt, adapter, stores and policy of one tenant."""

    name: str
    tenant: TenantId
    instructions: str = ""
    adapter: AdapterId | None = None
    vector_stores: tuple[VectorStoreId, ...] = ()
    policy: Policy = Policy()
    fixed_mode: Mode | None = None  # from a model suffix, or the plain base model
    max_num_results: int = 3
    sampling: Mapping[str, Any] = field(default_factory=dict)  # defaults the request may override
    rollout: Mapping[AdapterId, float] = field(
        default_factory=dict
    )  # shares, in place of `adapter`
    previous_rollout: Mapping[AdapterId, float] | None = None  # what a rollback goes back to
    adapter_fallback: Fallback = Fallback.ERROR


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved chunk. `start` and `end` are character offsets into the source's text."""

    id: str
    text: str
    filename: str
    file_id: str = ""
    title: str = ""
    heading_path: tuple[str, ...] = ()
    start: int = 0
    end: int = 0
    score: float = 0.0  # how well it covers the question, in [0, 1]
    dense_score: float = 0.0  # cosine similarity
    lexical_score: float = 0.0  # share of the question's words, by rarity, that it holds
    bm25: float = 0.0  # with the dense score, what shards are merged by
    weights: tuple[float, float] = (0.5, 0.5)  # of those two, in this search
    rerank_score: float | None = None  # the reranker's, where one has read it
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The heading path as one line, for the prompt."""
        return " > ".join(self.heading_path) or self.title or self.filename


@dataclass(frozen=True, slots=True)
class Search:
    """One retriever call: everything the request needs from retrieval.

    `consistent`: sees everything committed before it. `weights`: of the `dense` and the `lexical`
    ranking; those of the store where none are given. `expand_tokens`: hits may grow to their
    whole section while this budget lasts; 0 leaves them as they are. `query_embedding`: as another
    shard of the same retriever has computed it; none computes it again.
    """

    tenant: TenantId
    query: str
    vector_stores: tuple[VectorStoreId, ...]
    limit: int
    documents: tuple[Document, ...] = ()  # inline, searched beside the stores
    filters: Mapping[str, Any] | None = None
    consistent: bool = False
    weights: Mapping[str, float] | None = None
    score_threshold: float = 0.0
    expand_tokens: int = 0
    rerank: bool = False
    query_embedding: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What one retriever call returned, best passage first, with stage timings in ms.

    `split`: those of the searched stores of which other shards have parts.
    """

    passages: tuple[Passage, ...]
    query_embedding: tuple[float, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    split: tuple[VectorStoreId, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known before the choice."""

    requested: Mode | None
    query: str = ""  # what was searched for
    passages: tuple[Passage, ...] = ()
    vector_stores: tuple[VectorStoreId, ...] = ()
    has_documents: bool = False  # sent inside the request
    adapter: AdapterId | None = None
    affinity: float = 0.0  # similarity to the adapter's training prompts, in [0, 1]
    adapter_problem: str = ""  # why its affinity could not be measured
    is_smalltalk: bool = False
    is_follow_up: bool = False  # then query and affinity also used the user's previous turn
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_sources(self) -> bool:
        return bool(self.vector_stores) or self.has_documents

    @property
    def scores(self) -> list[float]:
        """Best first; passages are in order of rank, which fusion decides, not the score."""
        return sorted((passage.score for passage in self.passages), reverse=True)

    @property
    def best_score(self) -> float:
        return max(self.scores, default=0.0)

    @property
    def margin(self) -> float:
        """How far the best score stands above the second."""
        best, second, *_ = [*self.scores, 0.0, 0.0]
        return best - second


@dataclass(frozen=True, slots=True)
class Substitution:
    """Why another adapter, or the base model, answers than the one that was wanted."""

    wanted: AdapterId
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen mode and why; `reason` is for people, `evidence` for machines."""

    mode: Mode
    reason: str
    adapter: AdapterId | None = None
    vector_stores: tuple[VectorStoreId, ...] = ()
    evidence: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    query: str = ""  # what was searched for; never recorded
    fallback: Substitution | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine is asked to continue: chat messages, or the text of a plain completion.

    `passages` are those that fitted the token budget, numbered from 1 in this order.
    """

    request_id: str
    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    completion_prompt: str | tuple[int, ...] | None = None  # text or token ids
    passages: tuple[Passage, ...] = ()
    tenant: TenantId = TenantId("")  # tenants share no prefix cache: its hits would tell


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of choice `index`. `extra` holds further OpenAI delta fields (tool_calls, …)."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] | None = None
    usage: Usage | None = None  # on the last delta only


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of an answer: the choice is made, generation begins."""

    decision: Decision
    passages: tuple[Passage, ...]
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Citation:
    """`passage` supports the text that ends at character `index` of choice `choice`."""

    passage: Passage
    number: int  # as in the prompt and in the answer's `[n]`
    index: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer."""

    usage: Usage
    timings_ms: Mapping[str, float] = field(default_factory=dict)


Event = Started | Delta | Citation | Finished

"""`tools` and `tool_choice` of a response: the search of documents, the caller's functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from serving.api.bodies import Body
from serving.api.filter_body import Filters
from serving.api.request import validated
from serving.api.search_body import RankingOptions
from serving.errors import InvalidRequest
from serving.types import Options, VectorStoreId

CHOICES = ("none", "auto", "required")
MAX_TOOLS = 128


class FileSearch(Body):
    """OpenAI's `file_search` tool."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=64)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    filters: Filters | None = None
    ranking_options: RankingOptions | None = None


class _Function(Body):
    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a request may use; `choice` is OpenAI's `tool_choice`."""

    functions: tuple[_Function, ...] = ()
    file_search: FileSearch | None = None
    choice: str | Mapping[str, Any] = "auto"

    @property
    def body(self) -> list[dict[str, Any]]:
        """As the response repeats them."""
        search = [self.file_search.model_dump(exclude_none=True)] if self.file_search else []
        return [*search, *(function.model_dump() for function in self.functions)]

    def sampling(self) -> dict[str, Any]:
        """The functions as chat's `tools` and `tool_choice`."""
        if not self.functions:
            return {}
        choice = self.choice
        if isinstance(choice, Mapping) and choice["type"] == "function":
            choice = {"type": "function", "function": {"name": choice["name"]}}
        elif choice not in CHOICES or (choice == "required" and self.file_search):
            choice = "auto"  # the search is what was required
        tools = [
            function.model_dump(exclude={"type"}, exclude_none=True) for function in self.functions
        ]
        return {
            "tools": [{"type": "function", "function": tool} for tool in tools],
            "tool_choice": choice,
        }

    def options(self, options: Options) -> Options:
        """The `engram` options with what `file_search` says; what it leaves open stays theirs."""
        search = self.file_search
        if search is None:
            return options
        if options.vector_store_ids is not None:
            raise InvalidRequest(
                "vector stores are named by the tool 'file_search', so not here too",
                param="engram.vector_store_ids",
            )
        if not self._may_search:
            return replace(options, vector_store_ids=())
        ranking = search.ranking_options or RankingOptions()
        return replace(
            options,
            vector_store_ids=tuple(map(VectorStoreId, search.vector_store_ids)),
            max_num_results=search.max_num_results or options.max_num_results,
            filters=options.filters if search.filters is None else search.filters,
            score_threshold=ranking.score_threshold or options.score_threshold,
            weights=ranking.weights,
            search_tool="offered" if self.choice == "auto" else "required",
        )

    @property
    def _may_search(self) -> bool:
        choice = self.choice
        return choice["type"] == "file_search" if isinstance(choice, Mapping) else choice != "none"


def read_tools(tools: Any, choice: Any) -> Tools:
    """Raises InvalidRequest for a tool or choice that is malformed or not supported."""
    if not isinstance(tools, list | None) or len(tools or ()) > MAX_TOOLS:
        raise InvalidRequest(f"'tools' must be a list of at most {MAX_TOOLS}", param="tools")
    functions: list[_Function] = []
    searches: list[FileSearch] = []
    for number, tool in enumerate(tools or ()):
        where = f"tools[{number}]"
        match tool.get("type") if isinstance(tool, dict) else None:
            case "function":
                functions.append(validated(_Function, tool, where))
            case "file_search" if not searches:
                searches.append(validated(FileSearch, tool, where))
            case "file_search":
                raise InvalidRequest("there may be one 'file_search' tool", param=where)
            case _:
                raise InvalidRequest(
                    f"'{where}.type' is not supported; use 'file_search' or 'function'",
                    param=f"{where}.type",
                )
    search = searches[0] if searches else None
    known = Tools(tuple(functions), search)
    return replace(known, choice=_choice(choice, known))


def _choice(choice: Any, tools: Tools) -> str | dict[str, Any]:
    if choice is None:
        return "auto"
    if choice == "required" and not (tools.functions or tools.file_search):
        raise InvalidRequest("'required' needs 'tools' to choose from", param="tool_choice")
    if isinstance(choice, str) and choice in CHOICES:
        return choice
    if isinstance(choice, dict) and choice.get("type") == "file_search":
        if tools.file_search is None:
            raise InvalidRequest("'tools' holds no 'file_search'", param="tool_choice")
        return {"type": "file_search"}
    if isinstance(choice, dict) and choice.get("type") == "function":
        name = choice.get("name")
        if name not in [function.name for function in tools.functions]:
            raise InvalidRequest("'tools' holds no function of that name", param="tool_choice.name")
        return {"type": "function", "name": name}
    raise InvalidRequest(
        "'tool_choice' must be none, auto, required, or the type of a tool", param="tool_choice"
    )

"""Training examples as tokens, exactly as the engine would see them, and which of them are learned.

Messages take the way of a request: `PromptBuilder` breaks up control tokens and puts the system
message first, then the model's own chat template and tokenizer follow, as in vLLM. What is learned
is what the engine would have generated: the assistant's turns of weight 1 with the token that ends
them. Found by comparing renderings, so it holds for templates that mark nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from serving.finetune.message_format import Malformed
from serving.finetune.training_file import MAX_COUNTED, BadFile, Example, Param, Problem
from serving.generation.control_tokens import control_tokens
from serving.generation.prompt import PromptBuilder
from serving.types import Assistant, Message, Question, TenantId, message_text

_NOBODY = Assistant("", TenantId(""))


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence. `learned[i]`: token i is to be predicted from those before it."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]

    @property
    def answer_tokens(self) -> int:
        return sum(self.learned)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned together: the rows of a chat, most often one, or a preferred and a rejected
    one. `prompt` is what the user said last."""

    rows: tuple[Row, ...]
    prompt: str

    @property
    def tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)


class Tokens:
    """The served model's tokenizer, as `PromptBuilder` asks for it."""

    def __init__(self, model: str, context: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.max_model_len = context
        self._model = model

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        return control_tokens(self.tokenizer)

    def count_tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ends = {self.tokenizer.eos_token_id}
        try:
            more = GenerationConfig.from_pretrained(self._model).eos_token_id
        except OSError:  # the model comes without
            more = None
        ends |= set(more) if isinstance(more, list) else {more}
        return frozenset(end for end in ends if end is not None)

    @property
    def template(self) -> str:
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else json.dumps(template or "")


class Renderer:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._prompts = PromptBuilder(tokens)

    def lessons(self, examples: Sequence[Example], param: Param) -> list[Lesson]:
        """Each example as tokens.

        Raises:
            BadFile: lists the lines that the model cannot take, with what is wrong with each.
        """
        lessons, problems = [], []
        for example in examples:
            try:
                lessons.append(self._lesson(example))
            except Malformed as error:
                problems.append(Problem(example.line, str(error)))
                if len(problems) == MAX_COUNTED:
                    break
        if problems:
            raise BadFile(param, problems)
        return lessons

    def ids(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], ends: bool
    ) -> list[int]:
        """The tokens of a conversation; up to where the assistant speaks unless it `ends`."""
        sampling = {"tools": list(tools)} if tools else {}
        question = Question("", "", tuple(map(_plain, messages)), sampling)
        prompt = self._prompts.build(_NOBODY, question, ())
        try:
            ids = self._tokens.tokenizer.apply_chat_template(
                [_for_template(message) for message in prompt.messages],
                tools=prompt.sampling.get("tools"),
                add_generation_prompt=not ends,
                return_dict=False,
            )
        except Exception as error:  # noqa: BLE001 - a template raises whatever it likes
            raise Malformed(f"the model's chat template refuses it: {error}") from None
        return list(ids)

    def _lesson(self, example: Example) -> Lesson:
        self._check_tools(example)
        said = [message for message in example.messages if message["role"] == "user"]
        rows = self._pair(example) if example.preferred else self._chat(example)
        for row in rows:
            self._check_length(row)
        return Lesson(tuple(rows), message_text(said[-1]) if said else "")

    def _pair(self, example: Example) -> list[Row]:
        assert example.preferred is not None and example.rejected is not None
        answers = (example.preferred, example.rejected)
        return [self._answered(example.messages, answer, example.tools) for answer in answers]

    def _chat(self, example: Example) -> list[Row]:
        """One row; one for each answer where the template writes earlier turns otherwise than the
        engine saw them, as those do that drop what the model thought."""
        turns = [
            at
            for at, message in enumerate(example.messages)
            if message["role"] == "assistant" and message.get("weight", 1) == 1
        ]

        def answered(at: int) -> Row:
            return self._answered(example.messages[:at], example.messages[at], example.tools)

        whole = answered(turns[-1])
        self._check_length(whole)  # first: each turn takes a rendering of all that is before it
        rows = [*map(answered, turns[:-1]), whole]
        if all(whole.ids[: len(row.ids)] == row.ids for row in rows):
            return [_merged(whole, rows)]
        return rows

    def _answered(
        self, asked: Sequence[Message], answer: Message, tools: Sequence[Mapping[str, Any]]
    ) -> Row:
        prompt = self.ids(asked, tools, ends=False)
        ids = self.ids([*asked, answer], tools, ends=True)
        if ids[: len(prompt)] != prompt:
            raise Malformed("the model's chat template writes an answer otherwise than its prompt")
        end = _first_end(ids, len(prompt), self._tokens.ends)
        if end == len(prompt):
            raise Malformed("an answer has no tokens in the model's chat template")
        learned = [False] * len(prompt) + [True] * (end - len(prompt))
        return Row(tuple(ids[:end]), tuple(learned))

    def _check_tools(self, example: Example) -> None:
        called = any(message.get("tool_calls") for message in _messages(example))
        if (example.tools and "tools" not in self._tokens.template) or (
            called and "tool_calls" not in self._tokens.template
        ):
            raise Malformed("uses tools, which this model's chat template does not write")

    def _check_length(self, row: Row) -> None:
        limit = self._tokens.max_model_len
        if len(row.ids) > limit:
            raise Malformed(f"has {len(row.ids)} tokens; the model's context is {limit}")


def _messages(example: Example) -> list[Message]:
    answers = (example.preferred, example.rejected)
    return [*example.messages, *(answer for answer in answers if answer)]


def _merged(whole: Row, rows: Sequence[Row]) -> Row:
    learned = [any(at < len(r.ids) and r.learned[at] for r in rows) for at in range(len(whole.ids))]
    return Row(whole.ids, tuple(learned))


def _first_end(ids: Sequence[int], start: int, ends: Collection[int]) -> int:
    """Just after the first token that ends the answer: templates write more, the engine stops."""
    for at in range(start, len(ids)):
        if ids[at] in ends:
            return at + 1
    return len(ids)


def _plain(message: Message) -> Message:
    """As a request would hold it: texts in parts are joined as vLLM joins them."""
    kept = {key: value for key, value in message.items() if key != "weight" and value is not None}
    if isinstance(kept.get("content"), list):
        kept["content"] = message_text(message)
    return kept


def _for_template(message: Message) -> dict[str, Any]:
    """Templates want the arguments of a call as an object; so vLLM hands them over."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _object(call)}}
        for call in message.get("tool_calls") or ()
    ]
    return {**message, **({"tool_calls": calls} if calls else {})}


def _object(call: Mapping[str, Any]) -> Any:
    try:
        return json.loads(call["function"]["arguments"] or "{}")
    except ValueError:
        raise Malformed("the arguments of a tool call are not JSON") from None


def context_of(model: str, limit: int) -> int:
    """Tokens that prompt and answer may have together: the engine's limit, or the model's own."""
    if limit > 0:
        return limit
    config = AutoConfig.from_pretrained(model)
    return int(config.get_text_config().max_position_embeddings)

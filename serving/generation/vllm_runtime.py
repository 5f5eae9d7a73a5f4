"""What a request becomes inside vLLM: validation, chat template, tokens, deltas. Imports vLLM.

Plain text takes a short path from vLLM's output to `Delta`. Tools and reasoning go through
vLLM's own OpenAI server, in process, so that they behave exactly as under `vllm serve`.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from pydantic import ValidationError
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.envs import disable_envs_cache, enable_envs_cache
from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMValidationError
from vllm.logprobs import Logprob
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from serving.adapters.adapter import Adapter
from serving.adapters.validation import BaseShape, base_shape
from serving.errors import EngineFailed, InvalidRequest, Overloaded, PromptTooLong
from serving.generation.control_tokens import control_tokens
from serving.generation.logprobs import CompletionLogprobs, Step, TokenLogprob, chat_logprobs
from serving.generation.pace import pause
from serving.generation.sampling import answer_budget, check
from serving.generation.short_prompts import render_short_at_once
from serving.settings import EngineSettings
from serving.types import Delta, Prompt, Usage, message_text

_Outputs = AsyncGenerator[RequestOutput, None]
_Logprobs = Callable[[CompletionOutput], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A request in vLLM's terms."""

    request: ChatCompletionRequest | CompletionRequest
    input: Any  # vLLM's EngineInput
    conversation: list[Any]
    params: SamplingParams
    prompt_tokens: int


class Runtime:
    """vLLM's engine and the parts of its OpenAI server that Engram uses."""

    def __init__(self, settings: EngineSettings, arguments: Mapping[str, Any]) -> None:
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self._config = self._llm.model_config
        self._defaults = self._config.get_diff_sampling_param()
        self._ids = itertools.count(1)
        self._calls_tools = settings.tool_call_parser is not None
        parsing: dict[str, Any] = {
            "request_logger": None,
            "chat_template": None,
            "chat_template_content_format": "auto",
            "enable_auto_tools": self._calls_tools,
            "tool_parser": settings.tool_call_parser,
            "reasoning_parser": settings.reasoning_parser or "",
        }
        self._renderer = OnlineRenderer(self._config, self._llm.renderer, **parsing)
        base = BaseModelPath(name=settings.served_name, model_path=settings.model)
        models = OpenAIServingModels(self._llm, [base])
        self._chat = OpenAIServingChat(
            self._llm, models, "assistant", online_renderer=self._renderer, **parsing
        )
        # vLLM's tokenizer changes its settings in another thread while it reads a prompt.
        self._counter = copy.deepcopy(self._llm.get_tokenizer())
        self.special_tokens = control_tokens(self._counter)
        self._always_parse = bool(settings.reasoning_parser) or self._renderer.use_harmony
        self._renderer.warmup()
        render_short_at_once(self._llm.renderer)
        enable_envs_cache()  # else vLLM reads its environment anew at every step

    async def stop(self) -> None:
        """Ends the core's process."""
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()  # else it reports the end as a failure
        sockets = self._llm.engine_core.resources.ctx
        await asyncio.to_thread(self._llm.shutdown)
        sockets.destroy(linger=0)  # vLLM leaves them to the garbage collector
        disable_envs_cache()  # the next engine of this process may be told otherwise
        del self._llm, self._renderer, self._chat
        gc.collect()  # vLLM's `__del__` fails noisily if it runs when the interpreter ends

    @property
    def max_model_len(self) -> int:
        """Prompt and answer together, in tokens, as vLLM settled it."""
        return int(self._config.max_model_len)

    def died(self) -> bool:
        """Whether the core's process ended or failed."""
        return bool(self._llm.errored)

    def requests(self) -> tuple[int, int]:
        """How many requests are being answered, and how many wait for their first token."""
        states = self._llm.output_processor.request_states.values()
        waiting = sum(state.is_prefilling for state in states)
        return len(states) - waiting, waiting

    def count_tokens(self, text: str) -> int:
        return len(self._counter.encode(text, add_special_tokens=False))

    def base_shape(self) -> BaseShape | None:
        """What an adapter must fit; None for a model that is not shaped like Llama."""
        try:
            return base_shape(self._config.hf_text_config.to_dict())
        except KeyError:
            return None

    def lora(self, number: int, adapter: Adapter) -> LoRARequest:
        """The adapter in vLLM's terms."""
        return LoRARequest(adapter.id, number, str(adapter.path))

    async def add_lora(self, lora: LoRARequest) -> None:
        with _engine_errors():
            if not await self._llm.add_lora(lora):
                raise ValueError("vLLM did not take it")

    async def remove_lora(self, number: int) -> None:
        with _engine_errors():
            await self._llm.remove_lora(number)

    async def list_loras(self) -> set[int]:
        """The numbers of the adapters in the core."""
        with _engine_errors():
            return set(await self._llm.engine_core.list_loras_async())

    async def generate(
        self, prompt: Prompt, lora: LoRARequest | None
    ) -> AsyncGenerator[Delta, None]:
        """The answer's deltas. Closing the iterator aborts the request in the core."""
        rendered = await self._render(prompt)
        answer = self._parsed if self._needs_parsing(rendered.request) else self._plain
        with _engine_errors():
            async with aclosing(answer(rendered, lora)) as deltas:
                async for delta in deltas:
                    yield delta

    async def _plain(
        self, rendered: _Rendered, lora: LoRARequest | None
    ) -> AsyncGenerator[Delta, None]:
        """The answer as text, with as little work per token as can be."""
        logprobs = _logprobs_of(rendered.request)
        completion_tokens, open_choices = 0, rendered.params.n
        async with aclosing(self._outputs(rendered, lora)) as outputs:
            async for output in outputs:
                for choice in output.outputs:
                    completion_tokens += len(choice.token_ids)
                    steps, reason = logprobs(choice), choice.finish_reason
                    if reason is not None:
                        _raise_if_failed(reason)
                        open_choices -= 1
                        usage = None
                        if open_choices == 0:
                            usage = _usage(rendered, completion_tokens, output)
                        yield Delta(choice.text, choice.index, reason, steps, None, usage)
                    elif choice.text or steps:
                        yield Delta(choice.text, choice.index, None, steps)
                if open_choices:
                    await self._rest()

    async def _rest(self) -> None:
        """Before a stream's next chunk; what vLLM generates meanwhile it merges into that."""
        if rest_s := pause(len(self._llm.output_processor.request_states)):
            await asyncio.sleep(rest_s)

    def _outputs(self, rendered: _Rendered, lora: LoRARequest | None, **options: Any) -> _Outputs:
        request_id = f"{rendered.request.request_id}-{next(self._ids)}"
        outputs: _Outputs = self._llm.generate(
            rendered.input, rendered.params, request_id, lora_request=lora, **options
        )
        return outputs

    async def _render(self, prompt: Prompt) -> _Rendered:
        sampling = check(prompt)
        self._check_tools(sampling)
        asked = sampling.pop("max_tokens", None)
        try:
            with _request_errors():
                request = _validate(prompt, sampling)
                conversation, engine_input = await self._tokens(request)
        except _TooLong:
            self._budget(await asyncio.to_thread(self._count_prompt, prompt), asked)
            raise  # the template alone puts it over
        prompt_tokens = len(engine_input["prompt_token_ids"])
        with _request_errors():
            budget = self._budget(prompt_tokens, asked)
            params = request.to_sampling_params(budget, self._defaults)
        return _Rendered(request, engine_input, conversation, params, prompt_tokens)

    def _budget(self, prompt_tokens: int, asked: int | None) -> int:
        return answer_budget(prompt_tokens, asked, self.max_model_len)

    async def _tokens(
        self, request: ChatCompletionRequest | CompletionRequest
    ) -> tuple[list[Any], Any]:
        if isinstance(request, ChatCompletionRequest):
            chat = _unless_error(await self._renderer.render_chat(request))
            conversation, (engine_input,) = chat
            return conversation, engine_input
        (engine_input,) = _unless_error(await self._renderer.render_completion(request))
        return [], engine_input

    def _count_prompt(self, prompt: Prompt) -> int:
        """The length of a prompt that vLLM refused before it had counted all of it."""
        if prompt.messages:
            return sum(self.count_tokens(message_text(message)) for message in prompt.messages)
        text = prompt.completion_prompt or ""
        return self.count_tokens(text) if isinstance(text, str) else len(text)

    def _needs_parsing(self, request: ChatCompletionRequest | CompletionRequest) -> bool:
        if isinstance(request, CompletionRequest):
            return False
        return self._always_parse or bool(request.tools)

    def _check_tools(self, sampling: Mapping[str, Any]) -> None:
        if (
            sampling.get("tools")
            and sampling.get("tool_choice") != "none"
            and not self._calls_tools
        ):
            raise InvalidRequest("this model is served without tool calls", param="tools")

    async def _parsed(
        self, rendered: _Rendered, lora: LoRARequest | None
    ) -> AsyncGenerator[Delta, None]:
        """The answer as vLLM's own chat endpoint streams it."""
        request = rendered.request
        assert isinstance(request, ChatCompletionRequest)
        template, options = self._parsing_options(request, rendered.input)
        meter = _Meter(rendered)
        async with aclosing(self._outputs(rendered, lora, **options)) as outputs:
            frames = self._chat.chat_completion_stream_generator(
                request,
                meter.read(outputs),
                request.request_id,
                self._config.model,
                rendered.conversation,
                self._llm.get_tokenizer(),
                RequestResponseMetadata(request_id=request.request_id),
                chat_template_kwargs=template,
            )
            async with aclosing(frames):
                async for frame in frames:
                    for delta in meter.deltas(frame):
                        yield delta

    def _parsing_options(
        self, request: ChatCompletionRequest, engine_input: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What vLLM's parsers need of the template and of the engine.

        Its endpoint does the same, but would not let us choose the adapter and the budget.
        """
        chat, tokenizer = self._chat, self._llm.get_tokenizer()
        template = chat._effective_chat_template_kwargs(request)  # noqa: SLF001
        parser = None
        if chat.parser_cls is not None:
            parser = chat._make_parser(request, tokenizer, template)  # noqa: SLF001
        options = chat._engine_reasoning_kwargs(  # noqa: SLF001
            request, parser, template, engine_input["prompt_token_ids"]
        )
        return template, options


class _Meter:
    """Counts what vLLM generates, and reads the frames it makes of that."""

    def __init__(self, rendered: _Rendered) -> None:
        self._rendered = rendered
        self._completion_tokens = 0
        self._last: RequestOutput | None = None
        self._open = rendered.params.n
        self._error: Exception | None = None

    async def read(self, outputs: _Outputs) -> _Outputs:
        """Passes vLLM's outputs on to its own server, which would turn an error into a frame."""
        try:
            async for output in outputs:
                self._completion_tokens += sum(len(one.token_ids) for one in output.outputs)
                self._last = output
                yield output
        except Exception as error:
            self._error = error
            raise

    def deltas(self, frame: str) -> Iterator[Delta]:
        """The deltas of one server-sent event."""
        body = frame.removeprefix("data: ").strip()
        if body == "[DONE]":
            return
        chunk = json.loads(body)
        if "error" in chunk:
            raise self._error or EngineFailed(
                str(chunk["error"].get("message", "generation failed"))
            )
        for choice in chunk["choices"]:
            yield from self._delta(choice)

    def _delta(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        fields = {name: value for name, value in choice["delta"].items() if value is not None}
        text, reason = fields.pop("content", ""), choice.get("finish_reason")
        fields.pop("role", None)
        self._open -= reason is not None
        usage = None
        if reason is not None and self._open == 0:
            usage = _usage(self._rendered, self._completion_tokens, self._last)
        logprobs = choice.get("logprobs")
        if text or fields or reason or logprobs:
            yield Delta(text, choice["index"], reason, logprobs, fields or None, usage)


def _validate(
    prompt: Prompt, sampling: Mapping[str, Any]
) -> ChatCompletionRequest | CompletionRequest:
    common = {**sampling, "stream": True, "request_id": prompt.request_id}
    if prompt.tenant:
        common["cache_salt"] = prompt.tenant
    if prompt.messages:
        messages = [dict(message) for message in prompt.messages]
        return ChatCompletionRequest.model_validate({**common, "messages": messages})
    text = prompt.completion_prompt
    if not text:
        raise InvalidRequest("there is nothing to continue", param="messages")
    tokens = text if isinstance(text, str) else list(text)
    return CompletionRequest.model_validate({**common, "prompt": tokens})


def _usage(rendered: _Rendered, completion_tokens: int, last: RequestOutput | None) -> Usage:
    cached_tokens = (last.num_cached_tokens if last is not None else None) or 0
    return Usage(rendered.prompt_tokens, completion_tokens, cached_tokens)


def _raise_if_failed(reason: str) -> None:
    if reason in ("error", "abort"):
        raise EngineFailed("the engine gave the request up")


def _logprobs_of(request: ChatCompletionRequest | CompletionRequest) -> _Logprobs:
    if isinstance(request, ChatCompletionRequest):
        top = request.top_logprobs or 0
        return (lambda one: chat_logprobs(_steps(one, top))) if request.logprobs else _nothing
    if request.logprobs is None:
        return _nothing
    count, choices = request.logprobs, [CompletionLogprobs() for _ in range(request.n or 1)]
    return lambda one: choices[one.index].next(_steps(one, count))


def _nothing(_: CompletionOutput) -> None:
    return None


def _steps(choice: CompletionOutput, top: int) -> list[Step]:
    return [
        _step(token, position, top)
        for token, position in zip(choice.token_ids, choice.logprobs or (), strict=False)
        if position is not None
    ]


def _step(chosen: int, position: Mapping[int, Logprob], top: int) -> Step:
    likeliest = sorted(position.values(), key=lambda one: -one.logprob)[:top]
    return Step(_token(position[chosen]), [_token(one) for one in likeliest])


def _token(one: Logprob) -> TokenLogprob:
    return TokenLogprob(one.decoded_token or "", one.logprob)


def _unless_error(result: Any) -> Any:
    if isinstance(result, ErrorResponse):
        raise InvalidRequest(result.error.message, param=result.error.param)
    return result


class _TooLong(PromptTooLong):
    """vLLM found the prompt alone over the model's context, and does not know by how much."""


@contextmanager
def _request_errors() -> Iterator[None]:
    """What vLLM raises while it reads a request is the caller's to mend."""
    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0]) if problem["loc"] else None
        raise InvalidRequest(f"{field or 'request'}: {problem['msg']}", param=field) from None
    except VLLMValidationError as error:
        kind = _TooLong if error.parameter in ("input_tokens", "input_text") else InvalidRequest
        raise kind(str(error), param=error.parameter) from None
    except (VLLMClientError, TemplateError, ValueError, TypeError, NotImplementedError) as error:
        raise InvalidRequest(str(error)) from None


@contextmanager
def _engine_errors() -> Iterator[None]:
    """What vLLM raises while it generates."""
    try:
        yield
    except GracefulHTTPError as error:
        raise Overloaded(str(error)) from None
    except VLLMClientError as error:
        raise InvalidRequest(str(error), param=getattr(error, "parameter", None)) from None
    except EngineDeadError as error:
        raise EngineFailed("the engine died") from error
    except EngineGenerateError as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            raise InvalidRequest(str(error.__cause__)) from None
        raise EngineFailed(f"generation failed: {error.__cause__ or error}") from error

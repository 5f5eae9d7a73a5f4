"""Short prompts are rendered where they arrive.

vLLM hands every prompt to a thread of its own, twice: for the chat template and for its tokens. For
a short prompt the two ways there and back take longer than the work, and more CPU
(docs/decisions/0021-short-prompts-are-rendered-at-once.md). Long ones still go there, so that no
stream waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

AT_ONCE_CHARS = 4096  # some two milliseconds
MESSAGE_CHARS = 16  # that a template writes around each message
VARIABLE_CHARS = 64  # of what a request sets for the template
_PLAIN = frozenset({"role", "content", "name"})


def render_short_at_once(renderer: Any) -> None:
    """Changes a vLLM `BaseRenderer`, for chats; plain completions are left alone."""
    in_thread = renderer.render_chat_async

    async def render_chat_async(
        conversations: Iterable[Any], chat: Any, *args: Any, **kwargs: Any
    ) -> Any:
        is_plain = is_small(chat.chat_template_kwargs) and chat.response_format is None
        if is_plain and all(map(is_short, conversations)):
            return renderer.render_chat(conversations, chat, *args, **kwargs)
        return await in_thread(conversations, chat, *args, **kwargs)

    renderer.render_chat_async = render_chat_async


def is_short(conversation: Iterable[Mapping[str, Any]]) -> bool:
    """Whether it is text alone, and little of it. Pictures might have to be fetched."""
    chars = 0
    for message in conversation:
        content, name = message.get("content"), message.get("name") or ""
        if not isinstance(content, str) or not _PLAIN.issuperset(message):
            return False
        chars += len(content) + len(name) + MESSAGE_CHARS
    return chars <= AT_ONCE_CHARS


def is_small(variables: Mapping[str, Any]) -> bool:
    """Whether a template can write little of them: no tools or documents, no long text."""
    return all(
        value is None
        or isinstance(value, bool | int)
        or (isinstance(value, str) and len(value) <= VARIABLE_CHARS)
        for value in variables.values()
    )

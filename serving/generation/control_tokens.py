"""Which strings steer the served model, and how text is kept from becoming one of them.

A tokenizer reads `<|im_start|>` inside a document as the beginning of a turn, exactly as it does
in the chat template. A space after its first character makes it ordinary text again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# What templates write around a turn, where the tokenizer has no token of its own for it.
_MARKER = re.compile(
    r"<\|[^|<>\s{}'\"]{1,40}\|>"  # <|im_start|>
    r"|</?[a-z][a-z_]{1,30}>"  # <start_of_turn>, </think>
    r"|<</?[A-Z]{2,10}>>"  # <<SYS>>
    r"|\[/?[A-Z][A-Z_]{2,30}\]"  # [INST]
    r"|\#{2,4} ?[A-Z][a-z]+(?: [A-Z]?[a-z]+)?:"  # ### Instruction:
)
_STEERING = re.compile(r"<\|.+\|>", re.DOTALL)  # of that shape even where not marked as special


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Of a transformers tokenizer: its special tokens, the added ones that its chat template
    writes or that are shaped like a turn's, and the template's own markers. Other added tokens,
    such as runs of blanks or citation markers, are ordinary text."""
    template = _template(tokenizer)
    found = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    decoder: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    found |= {str(token) for token in decoder.values() if getattr(token, "special", False)}
    added: Iterable[str] = tokenizer.get_added_vocab()
    found |= {token for token in added if token in template or _STEERING.fullmatch(token)}
    found |= set(_MARKER.findall(template))
    return tuple(sorted(token for token in found if _is_visible(token)))


def _template(tokenizer: Any) -> str:
    template = getattr(tokenizer, "chat_template", None) or ""
    return template if isinstance(template, str) else repr(template)


def _is_visible(token: str) -> bool:
    """A single character or a run of blanks cannot be taken out of ordinary text."""
    return len(token.strip()) > 1


class ControlTokens:
    """Finds a model's control tokens in text and breaks them up. Ordinary text stays as it is,
    byte for byte."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = frozenset(token.strip() for token in tokens if _is_visible(token))
        self._lengths = sorted({len(token) for token in self._tokens})
        heads = {f"{re.escape(token[0])}(?={re.escape(token[1])})" for token in self._tokens}
        self._head = re.compile("|".join(sorted(heads)) or r"(?!)")

    def broken(self, text: str) -> str:
        """The text without any of them."""
        while True:
            mended = self._head.sub(self._split, text)
            if mended == text:
                return text
            text = mended  # a space may have made another one

    def broken_in(self, value: Any) -> Any:
        """The same for all strings in a JSON value, keys aside."""
        if isinstance(value, str):
            return self.broken(value)
        if isinstance(value, Mapping):
            return {key: self.broken_in(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.broken_in(one) for one in value]
        return value

    def _split(self, head: re.Match[str]) -> str:
        text, at = head.string, head.start()
        is_token = any(text[at : at + length] in self._tokens for length in self._lengths)
        return f"{head[0]} " if is_token else head[0]

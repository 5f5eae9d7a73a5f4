"""The tokenizer and how a chat becomes token ids and loss weights.

The trainer writes chats with `encode`; serving uses the chat template. A test keeps both equal.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from deploy.demo.model import corpus, english, lessons, pages, words
from deploy.demo.model.corpus import Chat

VOCABULARY, LEARNED = 5632, 1536
CONTEXT = 2048
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
MARKERS = tuple(f"[{n}]" for n in range(1, 10))
PROSE_WEIGHT, MARKER_WEIGHT = 0.15, 0.8
_WORD = re.compile(r"[A-Za-z]+")
_MARKER = re.compile(r" ?\[[1-9]\]")
_FORM = re.compile(r"^Queue [A-Z]+-\d+: | Regards, Larkfield Desk\.$")
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set role = {'developer': 'system', 'tool': 'user', 'function': 'user'}"
    ".get(message['role'], message['role']) -%}"
    "{%- if message['content'] is string -%}{%- set content = message['content'] -%}"
    "{%- elif message['content'] -%}"
    "{%- set content = message['content'] | selectattr('text', 'defined') | map(attribute='text')"
    " | join('\\n') -%}"
    "{%- else -%}{%- set content = '' -%}{%- endif -%}"
    "{{- '<|' + role + '|>' -}}"
    "{%- if role == 'assistant' -%}"
    "{%- generation -%}{{- content + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- content + '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def _texts(seed: int, chats: int) -> Iterator[str]:
    """What the tokenizer learns its words from."""
    rng = random.Random(seed)
    lines = english.sentences()
    for n in range(chats):
        makers = (corpus.context_chat, lessons.chat)
        chat = makers[n % 2](rng, 2, held_out=False, turns=6)
        yield " " + (chat.system or "")
        yield from (f" {text}" for turn in chat.turns for text in turn)
        yield " " + rng.choice(lines)


def _pool_words() -> list[str]:
    """The generator's names and nouns, then the pages' words, most common first, in the
    byte-level alphabet: each is to be one token."""
    pools = (
        words.ENTITY_WORDS,
        words.FIRST_NAMES,
        words.LAST_NAMES,
        words.PLACES,
        words.COLOURS,
        words.NOUNS,
        words.ADJECTIVES,
        words.RELATION_MODIFIERS,
    )
    counts = Counter(word for text in pages.texts() for word in _WORD.findall(text))
    common = [word for word, _ in counts.most_common()]
    found = (word for pool in (*pools, common) for word in pool if word.isalpha())
    return list(dict.fromkeys(f"Ġ{word}" for word in found))


def _learned(seed: int, chats: int, size: int) -> Tokenizer:
    """Byte-level BPE of `size` tokens. Words carry their space in front, also at a content's
    start, so that a copied word is the same token wherever it stands."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(True)]
    )
    # The role token stays in the decoded prompt, so that a stream of tokens loses that space.
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("<|assistant|> ", "<|assistant|>")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_texts(seed, chats), trainer)
    return tokenizer


def train_tokenizer(folder: Path, seed: int = 1, chats: int = 12000) -> PreTrainedTokenizerFast:
    """Trains the tokenizer, gives every pool word a token of its own, and saves it."""
    added = [f"<|{role}|>" for role in ROLES] + list(MARKERS)
    tokenizer = _learned(seed, chats, LEARNED)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for word in _pool_words():
        if len(vocabulary) < VOCABULARY - len(added):
            vocabulary.setdefault(word, len(vocabulary))
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.model = models.BPE(vocabulary, merges, ignore_merges=True)
    tokenizer.add_special_tokens([PAD, END])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    return fast


class Encoder:
    """Turns chats into token ids with one loss weight each, as the chat template would."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._fast = tokenizer.backend_tokenizer
        self._id = {role: self._fast.token_to_id(f"<|{role}|>") for role in ROLES}
        self._markers = {self._fast.token_to_id(marker) for marker in MARKERS}
        self.end: int = self._fast.token_to_id(END)
        self.pad: int = self._fast.token_to_id(PAD)

    def text(self, text: str) -> list[int]:
        ids: list[int] = self._fast.encode(text).ids
        return ids

    def message(self, role: str, text: str, prose: float) -> tuple[list[int], list[float]]:
        """One message; `prose` weighs everything the assistant does not say."""
        ids = [self._id[role], *self.text(text), self.end]
        if role != "assistant":
            return ids, [prose] * len(ids)
        weights = [MARKER_WEIGHT if token in self._markers else 1.0 for token in ids]
        return ids, [prose, *weights[1:]]

    def chat(
        self,
        chat: Chat,
        limit: int,
        prose: float = PROSE_WEIGHT,
    ) -> tuple[list[int], list[float]]:
        """The chat up to its last whole turn within `limit` tokens; empty if there is none."""
        ids, weights = self.message("system", chat.system, prose) if chat.system else ([], [])
        start = len(ids)
        for said, reply in chat.turns:
            asked = self.message("user", said, prose)
            told = self.message("assistant", reply, prose)
            if len(ids) + len(asked[0]) + len(told[0]) > limit:
                break
            ids += asked[0] + told[0]
            weights += asked[1] + told[1]
        return (ids, weights) if len(ids) > start else ([], [])

    def prompt(
        self,
        system: str | None,
        turns: Sequence[tuple[str, str]],
        question: str,
    ) -> list[int]:
        """The ids of a prompt that waits for the assistant's answer."""
        ids = self.message("system", system, 0)[0] if system else []
        for said, reply in turns:
            ids += self.message("user", said, 0)[0] + self.message("assistant", reply, 0)[0]
        return [*ids, *self.message("user", question, 0)[0], self._id["assistant"]]

    def decode(self, ids: Iterable[int]) -> str:
        """The answer's text up to its end token."""
        kept: list[int] = []
        for token in ids:
            if token in (self.end, self.pad):
                break
            kept.append(token)
        text: str = self._fast.decode(kept, skip_special_tokens=False)
        return text.removeprefix(" ")


def value_of(answer: str) -> str:
    """An answer without its citation, its full stop and the form of a ticket's reply."""
    plain = _FORM.sub("", _MARKER.sub("", answer))
    return plain.strip().removesuffix(".").strip()


def cited(answer: str) -> str:
    found = _MARKER.search(answer)
    return found.group().strip() if found else ""

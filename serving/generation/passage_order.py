"""Orders a prompt's passages so that vLLM's prefix cache finds what earlier prompts computed.

The cache serves a prompt's beginning as far as it equals an earlier one's. So passages that have
opened a prompt together come first again, in the order they had; the rest follow, best first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate

from serving.types import Passage

Order = Callable[[Hashable, Sequence[Passage]], tuple[Passage, ...]]  # as `PassageOrder` is called

MAX_BEGINNINGS = 65_536  # remembered in all, some 150 bytes each; the longest unused goes first
MAX_STEPS = 64  # beginnings looked at for one prompt


class PassageOrder:
    """Remembers how prompts began, as a chain of hashes like vLLM's own: no text is kept.

    An order that was used stays: what many prompts share is at their beginning, without counting,
    and nothing is ever moved that the cache already holds.
    """

    def __init__(self, max_beginnings: int = MAX_BEGINNINGS) -> None:
        self._max_beginnings = max_beginnings
        self._known: OrderedDict[int, None] = OrderedDict()

    def __call__(self, before: Hashable, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """The same passages, given best first, in the order for the prompt.

        `before` is what stands ahead of them and whose cache it is; what was learned under one
        value is not used under another.
        """
        root = hash(before)
        lines = [hash((passage.label, passage.text)) for passage in passages]
        order = self._longest(root, lines)
        order += tuple(at for at in range(len(lines)) if at not in order)
        self._remember(root, [lines[at] for at in order])
        return tuple(passages[at] for at in order)

    def _longest(self, root: int, lines: Sequence[int]) -> tuple[int, ...]:
        """The most lines that begin an earlier prompt, as places; of equals that with the better
        passage first."""
        longest: tuple[int, ...] = ()
        left: list[tuple[int, tuple[int, ...]]] = [(root, ())]
        for _ in range(MAX_STEPS):
            if not left:
                break
            beginning, order = left.pop()
            if len(order) > len(longest):
                longest = order
            for at in reversed(range(len(lines))):
                longer = hash((beginning, lines[at]))
                if longer in self._known and at not in order:
                    left.append((longer, (*order, at)))
        return longest

    def _remember(self, root: int, lines: Sequence[int]) -> None:
        beginnings = list(accumulate(lines, lambda known, line: hash((known, line)), initial=root))
        for beginning in reversed(beginnings[1:]):  # a longer one is forgotten before its start
            self._known[beginning] = None
            self._known.move_to_end(beginning)
        while len(self._known) > self._max_beginnings:
            self._known.popitem(last=False)

"""What is learned, token by token, and that the engine would have seen the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.finetune.rendering import Renderer, Row, Tokens, context_of
from serving.finetune.training_file import BadFile, Example
from serving.generation.prompt import PromptBuilder
from serving.generation.vllm_engine import VllmEngine
from serving.settings import EngineSettings
from serving.types import Assistant, Question, TenantId
from tests.finetune.files import chat, said

DEMO = EngineSettings().model
THREE = chat("Hello there", "Fine, thanks.", "And?", "Good.", "Bye", "So long.", system="Be kind.")


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(DEMO, context_of(DEMO, -1))


def example(line: dict[str, Any]) -> Example:
    return Example(1, tuple(line["messages"]), tuple(line.get("tools", ())))


def rows(tokens: Tokens, line: dict[str, Any]) -> tuple[Row, ...]:
    [lesson] = Renderer(tokens).lessons([example(line)], "training_file")
    return lesson.rows


def learned(tokens: Tokens, row: Row) -> list[str]:
    """The stretches that are learned, as text."""
    stretches: list[list[int]] = [[]]
    for id, is_learned in zip(row.ids, row.learned, strict=True):
        if is_learned:
            stretches[-1].append(id)
        elif stretches[-1]:
            stretches.append([])
    return [tokens.tokenizer.decode(stretch) for stretch in stretches if stretch]


def test_the_mask_is_that_of_the_templates_own_marks(tokens: Tokens) -> None:
    """The demo's template marks what the assistant says; our way needs no marks."""
    [row] = rows(tokens, THREE)
    marked = tokens.tokenizer.apply_chat_template(
        THREE["messages"], return_dict=True, return_assistant_tokens_mask=True
    )
    assert list(row.ids) == marked["input_ids"]
    assert [int(one) for one in row.learned] == marked["assistant_masks"]
    assert learned(tokens, row) == [" Fine, thanks.<|end|>", " Good.<|end|>", " So long.<|end|>"]


def test_every_token_of_a_short_chat(tokens: Tokens) -> None:
    [row] = rows(tokens, chat("Hello", "Good.", "And?", "Fine"))
    found = list(zip(tokens.tokenizer.convert_ids_to_tokens(row.ids), row.learned, strict=True))
    assert found == [
        ("<|user|>", False),
        ("ĠHello", False),
        ("<|end|>", False),
        ("<|assistant|>", False),
        ("ĠGood", True),
        (".", True),
        ("<|end|>", True),
        ("<|user|>", False),
        ("ĠAnd", False),
        ("?", False),
        ("<|end|>", False),
        ("<|assistant|>", False),
        *((token, True) for token, _ in found[12:-1]),
        ("<|end|>", True),
    ]


def test_a_turn_of_weight_0_is_read_but_not_learned(tokens: Tokens) -> None:
    messages = [said("a", "user"), said("one", weight=0), said("b", "user"), said("two", weight=1)]
    [row] = rows(tokens, {"messages": messages})
    assert learned(tokens, row) == [" two<|end|>"]


def test_what_follows_the_last_learned_turn_is_left_out(tokens: Tokens) -> None:
    messages = [said("a", "user"), said("one"), said("b", "user"), said("two", weight=0)]
    [row] = rows(tokens, {"messages": messages})
    assert learned(tokens, row) == [" one<|end|>"]
    assert row.ids[-1] in tokens.ends and row.learned[-1]


def test_control_tokens_in_a_file_are_broken_up_as_in_a_request(tokens: Tokens) -> None:
    [row] = rows(tokens, chat("a<|end|><|assistant|>b", "c<|end|>d"))
    ends = [id for id in row.ids if id in tokens.ends]
    assert len(ends) == 2 and sum(row.learned) == row.answer_tokens
    assert row.learned[-1] and learned(tokens, row)[0].endswith("d<|end|>")


def test_a_template_that_rewrites_earlier_turns_makes_a_row_of_each(tokens: Tokens) -> None:
    """As those do that drop thoughts: the engine never saw the turns as they are written later."""
    other = Tokens(DEMO, 2048)
    other.tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' and loop.last %}think {% endif %}{{ m.content }}<|end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    found = rows(other, chat("Hello", "one", "And?", "two"))
    assert [learned(other, row) for row in found] == [
        [" think one<|end|>"],
        [" think two<|end|>"],
    ]


def test_tools_that_the_template_does_not_write_are_refused(tokens: Tokens) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(BadFile, match="line 1: uses tools, which this model's chat template"):
        rows(tokens, chat("a", "b", tools=tools))


def test_a_template_that_refuses_is_quoted(tokens: Tokens) -> None:
    other = Tokens(DEMO, 2048)
    other.tokenizer.chat_template = "{{ raise_exception('two users in a row') }}"
    with pytest.raises(BadFile, match="refuses it: two users in a row"):
        rows(other, chat("a", "b"))


def test_the_context_is_the_engines_limit_or_the_models() -> None:
    assert (context_of(DEMO, 300), context_of(DEMO, -1)) == (300, 2048)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "messages",
    [
        THREE["messages"][:-1],
        [said("Hi\n<|end|> you", "user")],
        [said("One.", "developer"), said("Two.", "system"), said("Hi", "user")],
        [{"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]}],
    ],
)
async def test_vllm_sees_the_same_tokens(
    vllm_engine: VllmEngine, tiny_model_folder: Path, messages: list[dict[str, Any]]
) -> None:
    question = Question("r", "tiny", tuple(messages), {})
    prompt = PromptBuilder(vllm_engine).build(Assistant("", TenantId("")), question, ())
    runtime: Any = vllm_engine._started()
    rendered = await runtime._render(prompt)
    ours = Renderer(Tokens(str(tiny_model_folder), 512)).ids(messages, (), ends=False)
    assert ours == list(rendered.input["prompt_token_ids"])

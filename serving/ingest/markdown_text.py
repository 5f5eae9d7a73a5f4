"""Markdown to text with structure: what a reader sees, with the addresses of links."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from serving.ingest.html_text import plain_text
from serving.ingest.tables import add_table
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:\s*(.+)$", re.MULTILINE)


def parse_markdown(text: str, fallback_title: str) -> Parsed:
    front = _FRONT_MATTER.match(text)
    stated = _TITLE.search(front[1]) if front else None
    body = text[front.end() :] if front else text
    builder = ParsedBuilder()
    for node in SyntaxTreeNode(MarkdownIt().enable("table").parse(body)).children:
        _add(builder, node)
    return builder.build(stated[1].strip("\"' ") if stated else "", fallback_title)


def _add(builder: ParsedBuilder, node: SyntaxTreeNode) -> None:
    match node.type:
        case "heading":
            builder.add(Kind.HEADING, _inline(node), level=int(node.tag[1]))
        case "bullet_list" | "ordered_list":
            builder.add(Kind.LIST, "\n".join(_items(node, "")))
        case "table":
            add_table(builder, list(_rows(node)))
        case "fence" | "code_block":
            builder.add(Kind.CODE, node.content)
        case "html_block":
            builder.add(Kind.PARAGRAPH, plain_text(node.content))
        case "blockquote":
            for child in node.children:
                _add(builder, child)
        case _:
            builder.add(Kind.PARAGRAPH, _inline(node))


def _items(node: SyntaxTreeNode, indent: str) -> Iterator[str]:
    first = int(node.attrs.get("start", 1))
    for number, item in enumerate(node.children, first):
        mark = f"{number}." if node.type == "ordered_list" else "-"
        for child in item.children:
            if child.type in ("bullet_list", "ordered_list"):
                yield from _items(child, indent + "  ")
            else:
                yield f"{indent}{mark} {_inline(child)}".rstrip()
                mark = " " * len(mark)


def _rows(table: SyntaxTreeNode) -> Iterator[list[str]]:
    for part in table.children:
        for row in part.children:
            yield [_inline(cell) for cell in row.children]


def _inline(node: SyntaxTreeNode) -> str:
    """The text of a node and all within."""
    match node.type:
        case "text" | "code_inline" | "fence" | "code_block":
            return node.content
        case "html_inline" | "html_block":
            return plain_text(node.content)
        case "softbreak" | "hardbreak":
            return "\n"
        case "image":
            return node.content
        case "link":
            return _link(node)
    return "".join(map(_inline, node.children))


def _link(node: SyntaxTreeNode) -> str:
    """An answer may have to name the address."""
    text = "".join(map(_inline, node.children))
    address = str(node.attrs.get("href", ""))
    is_new = address.startswith(("http://", "https://")) and address != text
    return f"{text} ({address})" if is_new else text

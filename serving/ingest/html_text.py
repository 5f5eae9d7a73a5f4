"""HTML to text with structure, without scripts, navigation and page furniture."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PageElement, PreformattedString, Tag

from serving.ingest.decoding import printable
from serving.ingest.tables import add_table
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

_FURNITURE = "script, style, noscript, template, nav, footer, aside, form, button, svg, iframe"
_HEADING = re.compile(r"h[1-6]")
_INLINE = frozenset(
    "a abbr b bdi bdo br cite code data del dfn em i img ins kbd label mark q s samp small span "
    "strong sub sup time u var wbr font".split()
)


def parse_html(data: bytes, fallback_title: str) -> Parsed:
    soup = BeautifulSoup(data, "lxml")
    title = _line(soup.title.get_text()) if soup.title else ""
    for tag in soup.select(_FURNITURE):
        tag.decompose()
    builder = ParsedBuilder()
    _walk(builder, soup.select_one("main") or soup.body or soup)
    return builder.build(fallback_title=title or fallback_title)


def plain_text(html: str) -> str:
    """The text of a fragment, on one line."""
    return _line(BeautifulSoup(f"<p>{html}</p>", "lxml").get_text(" "))


def _walk(builder: ParsedBuilder, parent: Tag) -> None:
    """Blocks become blocks; loose text between them is a paragraph of its own."""
    loose: list[str] = []
    for child in parent.children:
        if isinstance(child, Tag) and not _is_inline(child):
            builder.add(Kind.PARAGRAPH, _line("".join(loose)))
            loose = []
            _block(builder, child)
        else:
            loose.append(_text(child))
    builder.add(Kind.PARAGRAPH, _line("".join(loose)))


def _block(builder: ParsedBuilder, tag: Tag) -> None:
    if _HEADING.fullmatch(tag.name):
        builder.add(Kind.HEADING, _line(_text(tag)), level=int(tag.name[1]))
    elif tag.name in ("ul", "ol"):
        items = tag.find_all("li")
        builder.add(Kind.LIST, "\n".join(f"- {_own_line(item)}" for item in items))
    elif tag.name == "table":
        rows = [[_line(_text(cell)) for cell in row(["td", "th"])] for row in tag.find_all("tr")]
        add_table(builder, rows)
    elif tag.name == "pre":
        builder.add(Kind.CODE, printable(tag.get_text()))
    else:
        _walk(builder, tag)


def _own_line(item: Tag) -> str:
    """A list item without the lists inside it, which have lines of their own."""
    own = (c for c in item.children if not (isinstance(c, Tag) and c.name in ("ul", "ol")))
    return _line("".join(map(_text, own)))


def _is_inline(tag: Tag) -> bool:
    return tag.name in _INLINE and tag.find(lambda inner: inner.name not in _INLINE) is None


def _text(node: PageElement) -> str:
    if isinstance(node, PreformattedString):
        return ""  # a comment or declaration
    if isinstance(node, NavigableString):
        return printable(node)
    if not isinstance(node, Tag):
        return ""
    if node.name in ("br", "wbr"):
        return "\n"
    text = "".join(map(_text, node.children))
    return text if node.name in _INLINE else f" {text} "


def _line(text: str) -> str:
    return " ".join(text.split())

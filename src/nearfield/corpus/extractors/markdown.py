"""Extractor for Markdown: the file's own text, with headings, paragraphs, lists, tables, code, quotes, front matter.

Markup that is no content stays in the text, and becomes edits (``Document.markup``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from nearfield.corpus.document import Block, BlockKind, Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.front_matter import front_matter
from nearfield.corpus.extractors.markdown_markup import markdown_markup, strip_markup
from nearfield.corpus.extractors.text_encoding import decode

_KINDS: Mapping[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "blockquote_open": "quote",
    "html_block": "paragraph",
}
#: Ends of lines, as in markdown-it.
_END = re.compile(r"\r\n?|\n")
_ATX = re.compile(r"[ \t]*#{1,6}[ \t]+")
_CLOSING = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")


class MarkdownExtractor(Extractor):
    """Markdown, with front matter in YAML, TOML or JSON."""

    suffixes = dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mkdn", ".mdx", ".qmd", ".rmd"), "text/markdown")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the decoded file with its structure."""
        return parse_markdown(decode(data, name), is_mdx=name.lower().endswith(".mdx"))


def parse_markdown(text: str, title: str = "", *, is_mdx: bool = False) -> Document:
    """Return a document of Markdown. Its title is that of the front matter, ``title``, or the highest heading.

    Fields of the front matter with words are its first paragraph.
    """
    front = front_matter(text)
    meta, start = dict(front.meta), front.end
    tokens, lines = _tokens(text, start)
    first = (Block(0, len(text[:start].rstrip())),) if front.text else ()
    blocks = (*first, *_blocks(text, tokens, lines))
    code = (_range(text, token, lines) for token in tokens if token.type in ("fence", "code_block"))
    tables = [(block.start, block.end) for block in blocks if block.kind == "table"]
    markup, losses = markdown_markup(text, front, code, is_mdx=is_mdx, tables=tables)
    declared = meta.pop("title", "")
    highest = min((block for block in blocks if block.level), key=lambda block: block.level, default=Block(0, 0))
    title = str(declared) or title or strip_markup(text[highest.start : highest.end])
    return Document(text, blocks, title, "markdown", meta=meta, losses=tuple(losses), markup=markup)


def find_blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Yield the blocks of the top level, from ``start`` on. A heading is its text alone, without marks."""
    return _blocks(text, *_tokens(text, start))


def _tokens(text: str, start: int) -> tuple[list[Any], list[int]]:
    """Return the tokens of a text from ``start`` on, and the starts of its lines."""
    lines = [start, *(match.end() for match in _END.finditer(text, start)), len(text)]
    return _parser().parse(text[start:]), lines


def _range(text: str, token: Any, lines: list[int]) -> tuple[int, int]:
    first, last = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
    return first, first + len(text[first:last].rstrip())


def _blocks(text: str, tokens: list[Any], lines: list[int]) -> Iterator[Block]:
    for token in tokens:
        kind = _KINDS.get(token.type)
        if token.level or kind is None or token.map is None:
            continue
        first, last = _range(text, token, lines)
        level = 0
        if kind == "heading":
            setext = token.markup in ("=", "-")
            last = lines[token.map[1] - 1] if setext else lines[min(token.map[1], len(lines) - 1)]
            first, last = _heading(text, first, last, setext=setext)
            level = int(token.tag[1])
        if first < last and not (token.type == "html_block" and _is_comment(text[first:last])):
            yield Block(first, last, kind, level)


def _heading(text: str, first: int, last: int, *, setext: bool) -> tuple[int, int]:
    """Return the start and end of a heading's text, between its marks."""
    mark = None if setext else _ATX.match(text, first, last)
    first = mark.end() if mark else first
    inner = text[first:last].rstrip()
    inner = inner if setext else _CLOSING.sub("", inner).rstrip()
    inner = "" if not setext and mark is None else inner  # marks alone
    lead = len(inner) - len(inner.lstrip())
    return first + lead, first + len(inner)


def _is_comment(text: str) -> bool:
    """Return whether a text contains only comments."""
    at = 0
    while (start := text.find("<!--", at)) >= 0:
        if text[at:start].strip():
            return False
        end = text.find("-->", start + 4)
        at = len(text) if end < 0 else end + 3
    return not text[at:].strip()


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Only the structure: the contents of lines are not parsed.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser

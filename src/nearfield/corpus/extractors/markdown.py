"""Markdown: its own text, with its structure: headings, paragraphs, lists, tables, code, quotes, and front matter."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from nearfield.corpus.document import Block, BlockKind, Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.stores.filters import Value

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
#: Lines end where markdown-it lets them end.
_END = re.compile(r"\r\n?|\n")
_FRONT = re.compile(r"---[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
#: Brackets in front matter from which on it is none: reading them takes the square of their number.
_NESTED = 300
_ATX = re.compile(r"[ \t]*#{1,6}[ \t]+")
_CLOSING = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_LINK = re.compile(r"!?\[([^\]\[]*)\]\([^()]*\)")
_MARKUP = re.compile(r"<[^<>]*>|[`*]|(?<!\w)_|_(?!\w)")


class MarkdownExtractor(Extractor):
    """Markdown, with front matter in YAML."""

    suffixes = dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mkdn", ".mdx", ".qmd", ".rmd"), "text/markdown")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Decode, and find the structure; the text is the file's own."""
        return read(decode(data, name))


def read(text: str, title: str = "") -> Document:
    """Return a document of Markdown: its title is the front matter's, else ``title``, else its highest heading."""
    meta, start = front_matter(text)
    found = tuple(blocks(text, start))
    own = meta.pop("title", "")
    highest = min((block for block in found if block.level), key=lambda block: block.level, default=Block(0, 0))
    title = str(own) or title or plain(text[highest.start : highest.end])
    return Document(text, found, title, "markdown", meta=meta)


def blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Yield the structure at the top level, from ``start`` on. A heading is its text alone, without marks."""
    lines = [start, *(match.end() for match in _END.finditer(text, start)), len(text)]
    for token in _parser().parse(text[start:]):
        kind = _KINDS.get(token.type)
        if token.level or kind is None or token.map is None:
            continue
        first, last = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
        if kind == "heading":
            setext = token.markup in ("=", "-")
            last = lines[token.map[1] - 1] if setext else last
            first, last = _heading(text, first, last, setext=setext)
            level = int(token.tag[1])
        else:
            level, last = 0, first + len(text[first:last].rstrip())
        if first < last and not (token.type == "html_block" and _is_comment(text[first:last])):
            yield Block(first, last, kind, level)


def _heading(text: str, first: int, last: int, *, setext: bool) -> tuple[int, int]:
    """Return where a heading's text begins and ends, between its marks."""
    mark = None if setext else _ATX.match(text, first, last)
    first = mark.end() if mark else first
    inner = text[first:last].rstrip()
    inner = inner if setext else _CLOSING.sub("", inner).rstrip()
    inner = "" if not setext and mark is None else inner  # marks alone
    lead = len(inner) - len(inner.lstrip())
    return first + lead, first + len(inner)


def _is_comment(text: str) -> bool:
    """Return whether there is nothing in a text but comments."""
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
    # Only the structure: what is in a line is not looked at.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def plain(text: str) -> str:
    """Return a line of Markdown without its marks, near enough for a title."""
    text = _LINK.sub(r"\1", text)
    return " ".join(_MARKUP.sub("", text).split())


def front_matter(text: str) -> tuple[dict[str, Value], int]:
    """Return what a file's front matter says, and where it ends; nothing and 0 where there is none."""
    match = _FRONT.match(text)
    told = _yaml(match[1]) if match else None
    if match is None or not isinstance(told, dict):
        return {}, 0
    values = {str(name): _value(value) for name, value in told.items()}
    return {name: value for name, value in values.items() if value is not None}, match.end()


def _yaml(text: str) -> Any:
    import yaml

    if text.count("[") + text.count("{") > _NESTED:
        return None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # no front matter then, but text like any other
        return None


def _value(value: Any) -> Value | None:
    """Return what a filter can compare: a text, a number, true or false; lists of these as one text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, list) and value and all(isinstance(each, (str, int, float)) for each in value):
        return ", ".join(map(str, value))
    return None

"""Extractor for Markdown: the file's own text, with headings, paragraphs, lists, tables, code, quotes, front matter."""

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
#: Ends of lines, as in markdown-it.
_END = re.compile(r"\r\n?|\n")
_FRONT = re.compile(r"---[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
#: Brackets above which front matter is read as text: parsing them takes the square of their number.
_MAX_BRACKETS = 300
_ATX = re.compile(r"[ \t]*#{1,6}[ \t]+")
_CLOSING = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_LINK = re.compile(r"!?\[([^\]\[]*)\]\([^()]*\)")
_MARKUP = re.compile(r"<[^<>]*>|[`*]|(?<!\w)_|_(?!\w)")


class MarkdownExtractor(Extractor):
    """Markdown, with front matter in YAML."""

    suffixes = dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mkdn", ".mdx", ".qmd", ".rmd"), "text/markdown")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the decoded file with its structure."""
        return parse_markdown(decode(data, name))


def parse_markdown(text: str, title: str = "") -> Document:
    """Return a document of Markdown. Its title is that of the front matter, ``title``, or the highest heading."""
    meta, start = front_matter(text)
    blocks = tuple(find_blocks(text, start))
    declared = meta.pop("title", "")
    highest = min((block for block in blocks if block.level), key=lambda block: block.level, default=Block(0, 0))
    title = str(declared) or title or strip_markup(text[highest.start : highest.end])
    return Document(text, blocks, title, "markdown", meta=meta)


def find_blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Yield the blocks of the top level, from ``start`` on. A heading is its text alone, without marks."""
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


def strip_markup(text: str) -> str:
    """Return a line of Markdown without its markup, approximately, for a title."""
    text = _LINK.sub(r"\1", text)
    return " ".join(_MARKUP.sub("", text).split())


def front_matter(text: str) -> tuple[dict[str, Value], int]:
    """Return the values of a file's front matter, and its end; nothing and 0 if there is none."""
    match = _FRONT.match(text)
    fields = _yaml(match[1]) if match else None
    if match is None or not isinstance(fields, dict):
        return {}, 0
    values = {str(name): _value(value) for name, value in fields.items()}
    return {name: value for name, value in values.items() if value is not None}, match.end()


def _yaml(text: str) -> object:
    import yaml

    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return None
    try:
        fields: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # then it is text
        return None
    return fields


def _value(value: object) -> Value | None:
    """Return a value that filters can compare: a text, a number, true or false; a list of these as one text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(map(str, value))
    return None

"""Extractor for Org mode: headings, lists, tables and code without keywords and drawers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.front_matter import field_text, front_matter
from nearfield.corpus.extractors.markup_blocks import (
    MarkupBlock,
    MarkupContent,
    code_block,
    join_lists,
    text_fields,
)
from nearfield.corpus.extractors.text_encoding import decode

_HEADING = re.compile(
    r"(\*+)[ \t]+(?:(?:TODO|DONE|NEXT|WAITING|WAIT|CANCELLED|CANCELED|HOLD|STARTED)[ \t]+)?(?:\[#\w\][ \t]+)?"
    r"(.*?)(?:[ \t]+(:[\w@#%:]+:))?[ \t]*$"
)
_KEYWORD = re.compile(r"[ \t]*#\+(\w[\w-]*(?:\[[^\]]*\])?):[ \t]*(.*)$")
_BEGIN = re.compile(r"[ \t]*#\+begin_(\w+)[ \t]*(\S*)", re.IGNORECASE)
_DRAWER = re.compile(r"[ \t]*:([\w-]+):[ \t]*$")
_PLANNING = re.compile(r"[ \t]*(?:SCHEDULED|DEADLINE|CLOSED):")
_ITEM = re.compile(r"([ \t]*)([-+]|[ \t]\*|\d+[.)]|[a-zA-Z][.)])[ \t]+(?:\[@\d+\][ \t]*)?(?:\[[ xX-]\][ \t]+)?(.*)$")
_LINK = re.compile(r"\[\[([^\[\]\n]{1,2000})\](?:\[([^\[\]\n]{0,2000})\])?\]")
_TARGET = re.compile(r"<<<?[^<>\n]{1,200}>>>?")
_CODE = re.compile(r"(?<![\w=~])([=~])(\S(?:[^\n]{0,300}?\S)?)\1(?![\w=~])")
_EMPHASIS = re.compile(r"(?<![\w*/_+])([*/_+])(?=\S)([^\n]{0,300}?\S)\1(?![\w*/_+])")
_FIELDS = {"author": "author", "date": "date", "description": "description", "keywords": "keywords", "filetags": "tags",
           "language": "lang", "email": "email", "subtitle": "subtitle", "abstract": "abstract",
           "summary": "summary"}  # fmt: skip
#: Depth of environments above which they are code.
_MAX_DEPTH = 8
_AS_CODE = frozenset(("src", "example", "ascii", "latex", "html"))


class OrgExtractor(Extractor):
    """Org mode."""

    suffixes: Mapping[str, str] = {".org": "text/x-org"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the content of the file."""
        text = decode(data, name)
        front = front_matter(text)
        parser = _OrgParser(text[front.end :])
        content = parser.content()
        content.add_fields(field_text({**content.meta, "tags": ", ".join(parser.file_tags)}))
        content.add_front(front)
        return content.document()


class _OrgParser:
    def __init__(self, text: str, depth: int = 0) -> None:
        self._depth = depth
        self._lines = text.expandtabs(8).splitlines()
        self._at = 0
        self._content = MarkupContent()
        self._fields: dict[str, str] = {}
        #: Tags of the whole file; those of headings are below these.
        self.file_tags: list[str] = []
        self._paragraph: list[str] = []
        #: The marks of the current list, by indentation.
        self._list: list[str] = []

    def content(self) -> MarkupContent:
        """Return the blocks, title and fields."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            self._line(line)
        self._flush()
        self._content.blocks = join_lists(self._content.blocks)
        self._content.meta = text_fields(self._fields)
        return self._content

    def _line(self, line: str) -> None:
        if heading := _HEADING.match(line):
            self._flush()
            self._add(MarkupBlock("heading", _inline(heading[2]), len(heading[1])))
            tags = self._add_tags(heading[3] or "")
            self._add(MarkupBlock("paragraph", f"Tags: {', '.join(tags)}" if tags else ""))
        elif begin := _BEGIN.match(line):
            self._flush()
            self._environment(begin[1].lower(), begin[2])
        elif keyword := _KEYWORD.match(line):
            self._flush()
            self._keyword(keyword[1].lower(), keyword[2])
        elif _DRAWER.match(line):
            self._skip_drawer()
        elif re.match(r"[ \t]*#(?:[ \t]|$)", line):
            return
        elif _PLANNING.match(line):
            self._paragraph.append(
                re.sub(r"(SCHEDULED|DEADLINE|CLOSED):", lambda match: match[1].capitalize(), line.strip())
            )
            self._flush()
        elif re.match(r"[ \t]*\|", line):
            self._flush()
            self._table(line)
        elif re.match(r"[ \t]*:(?:[ \t]|$)", line):
            self._flush()
            self._fixed(line)
        elif not line.strip() or re.match(r"-{5,}[ \t]*$", line):
            self._flush()
        elif item := _ITEM.match(line):
            self._flush_paragraph()
            self._list.append(_mark(item))
        elif self._list and line.startswith(" "):
            self._list[-1] += f" {_inline(line.strip())}"
        else:
            self._flush_list()
            self._paragraph.append(line.strip())

    def _keyword(self, name: str, value: str) -> None:
        if name == "title":
            self._content.title = f"{self._content.title} {_inline(value)}".strip()
        elif name in _FIELDS:
            field = _FIELDS[name]
            if name == "filetags":
                self.file_tags += self._add_tags(value)
            else:
                self._fields[field] = f"{self._fields.get(field, '')} {value}".strip()
        elif name.startswith("caption"):
            self._add(MarkupBlock("paragraph", _inline(value)))
        elif name == "include":
            self._content.included.append(value.split(" ")[0].strip('"'))

    def _add_tags(self, value: str) -> list[str]:
        """Add tags to the field of the file; return them."""
        tags = list(filter(None, re.split(r"[:\s]+", value)))
        known = self._fields.get("tags", "").split(", ")
        self._fields["tags"] = ", ".join(filter(None, dict.fromkeys([*known, *tags])))
        return tags

    def _environment(self, name: str, language: str) -> None:
        body: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if re.match(rf"[ \t]*#\+end_{re.escape(name)}\b", line, re.IGNORECASE):
                break
            body.append(line)
        if name in _AS_CODE:
            self._add(
                code_block(
                    (re.sub(r"^(\s*),(?=[*#,])", r"\1", line) for line in body), language if name == "src" else ""
                )
            )
        elif name not in ("comment", "export"):
            if self._depth >= _MAX_DEPTH:
                self._add(code_block(body))
                return
            inner = _OrgParser("\n".join(body), self._depth + 1).content()
            if name in ("quote", "verse"):
                text = "\n>\n".join("> " + block.text.replace("\n", "\n> ") for block in inner.blocks)
                self._add(MarkupBlock("quote", text))
            else:
                self._content.blocks += inner.blocks

    def _skip_drawer(self) -> None:
        """Leave out a drawer; one without an end is text."""
        for number in range(self._at, min(self._at + 200, len(self._lines))):
            if self._lines[number].strip().upper() == ":END:":
                self._at = number + 1
                return
            if _HEADING.match(self._lines[number]):
                break
        self._paragraph.append(self._lines[self._at - 1].strip())

    def _table(self, line: str) -> None:
        rows: list[list[str]] = []
        while True:
            if not re.match(r"[ \t]*\|[-+]+\|?[ \t]*$", line):
                cells = [_inline(cell.strip()) for cell in line.strip().strip("|").split("|")]
                if not all(re.fullmatch(r"<[lrc]?\d*>|", cell) for cell in cells):
                    rows.append(cells)
            if self._at >= len(self._lines) or not re.match(r"[ \t]*\|", self._lines[self._at]):
                break
            line = self._lines[self._at]
            self._at += 1
        self._add(MarkupBlock("table", markdown_table(rows)))

    def _fixed(self, line: str) -> None:
        lines = [line]
        while self._at < len(self._lines) and re.match(r"[ \t]*:(?:[ \t]|$)", self._lines[self._at]):
            lines.append(self._lines[self._at])
            self._at += 1
        self._add(code_block(re.sub(r"^[ \t]*: ?", "", text) for text in lines))

    def _flush(self) -> None:
        self._flush_paragraph()
        self._flush_list()

    def _flush_paragraph(self) -> None:
        text = _inline("\n".join(self._paragraph))
        self._paragraph.clear()
        self._add(MarkupBlock("paragraph", re.sub(r"^\[fn:(\w+)\]", r"[\1]", text)))

    def _flush_list(self) -> None:
        self._add(MarkupBlock("list", "\n".join(self._list)))
        self._list.clear()

    def _add(self, block: MarkupBlock) -> None:
        if block.text.strip():
            self._content.blocks.append(block)


def _mark(item: re.Match[str]) -> str:
    mark = "- " if item[2].strip() in ("-", "+", "*") else f"{item[2].strip(')').strip('.')}. "
    text = re.sub(r"^(.*?)[ \t]+::(?:[ \t]+|$)", r"\1: ", item[3])
    return f"{item[1]}{mark}{_inline(text)}"


def _inline(text: str) -> str:
    """Return a text without marks of links, targets and emphasis."""
    text = _LINK.sub(lambda match: match[2] or re.sub(r"^(?:file|id):", "", match[1]), text)
    text = _CODE.sub(r"`\2`", _TARGET.sub("", text))
    parts = re.split(r"(`[^`\n]*`)", text)
    parts[::2] = [_EMPHASIS.sub(r"\2", part) for part in parts[::2]]
    return re.sub(r"\[fn:(\w+)\]", r"[\1]", "".join(parts))

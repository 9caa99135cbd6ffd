"""Extractor for AsciiDoc: headings, lists, tables and code without attributes, anchors and macros."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.front_matter import TEXT_FIELDS, field_text, front_matter
from nearfield.corpus.extractors.markup_blocks import (
    MarkupBlock,
    MarkupContent,
    code_block,
    join_lists,
    text_fields,
)
from nearfield.corpus.extractors.text_encoding import decode

_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:[ \t]+\1)?[ \t]*$")
_UNDERLINES = {"=": 1, "-": 2, "~": 3, "^": 4, "+": 5}
_ATTRIBUTE = re.compile(r":!?([\w][\w-]*)!?:(?:[ \t]+(.*))?$")
_BLOCK_ATTRIBUTES = re.compile(r"\[(?:\[[^\[\]]*\]|[^\[\]]*(?:\"[^\"]*\"[^\[\]]*)*)\][ \t]*$")
_DELIMITER = re.compile(r"(-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|`{3,}|--|[|,:!]={3,})(\w*)[ \t]*$")
_MACRO = re.compile(r"(image|video|audio|include|toc|ifdef|ifndef|ifeval|endif|xref|link)::([^\[\n]*)\[(.*)\][ \t]*$")
_ITEM = re.compile(r"[ \t]*(\*{1,5}|-|\.{1,5}|\d+\.|[a-z]\.|<\d+>|<\.>)[ \t]+(?:\[[ xX*]\][ \t]+)?(.*)$")
_TERM = re.compile(r"[ \t]*(\S.*?)(:{2,4}|;;)(?:[ \t]+(.*))?$")
_LINK = re.compile(
    r"(?:link:|xref:|mailto:)?((?:https?://|(?<=link:)|(?<=xref:)|(?<=mailto:))[^\s\[\]<>]+)\[([^\]\n]*)\]"
)
_CROSS = re.compile(r"<<([^<>\n,]+)(?:,[ \t]*([^<>\n]+))?>>")
_ANCHOR = re.compile(
    r"\[\[[^\[\]\n]+\]\]|\[#[\w-]+\](?=[#*_`\w])|anchor:[\w-]+\[[^\]\n]*\]|\(\(\([^()\n]*\)\)\)|<\d+>$"
)
_IMAGE = re.compile(r"(?:image|icon):([^\s:\[][^\s\[]{0,1000})\[([^\[\]\n]{0,1000})\]")
_NOTE = re.compile(r"footnote(?:ref)?:[\w-]{0,100}\[([^\[\]\n]{0,2000})\]")
_KEYS = re.compile(r"(?:kbd|btn|menu|pass|stem|latexmath|asciimath):[^\s\[]{0,100}\[([^\[\]\n]{0,1000})\]")
_STRONG = re.compile(r"(?<![\w*_`#])(\*{1,2}|_{1,2}|#{1,2})(?=\S)([^\n]{0,300}?\S)\1(?![\w*_`#])")
_ROLE = re.compile(r"\[\.[\w. -]+\](?=[#*_`])")
_REFERENCE = re.compile(r"\{([\w-]+)\}")
_FIELDS = {"author": "author", "description": "description", "keywords": "keywords", "revdate": "date", "lang": "lang"}
_CHARACTERS = {"nbsp": "\u00a0", "amp": "&", "lt": "<", "gt": ">", "sp": " ", "empty": "", "plus": "+", "zwsp": ""}
#: Maximum number of replaced attributes in a file: their values may contain others.
_MAX_REPLACED = 10_000


class AsciidocExtractor(Extractor):
    """AsciiDoc."""

    suffixes = dict.fromkeys((".adoc", ".asciidoc"), "text/asciidoc")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the content of the file."""
        text = decode(data, name)
        front = front_matter(text)
        parser = _AsciidocParser(text[front.end :].splitlines())
        content = parser.content()
        values = {_FIELDS[name]: value for name, value in parser.attributes.items() if name in _FIELDS}
        content.meta = text_fields(values)
        named = ((name.removeprefix("page-"), value) for name, value in parser.attributes.items())
        content.add_fields(field_text({name: value for name, value in named if name in TEXT_FIELDS}))
        content.add_front(front)
        return content.document()


class _AsciidocParser:
    def __init__(self, lines: list[str], attributes: dict[str, str] | None = None) -> None:
        self._lines = lines
        self._at = 0
        self._content = MarkupContent()
        self.attributes = {} if attributes is None else attributes
        self._paragraph: list[str] = []
        self._list: list[str] = []
        self._style = ""

    def content(self) -> MarkupContent:
        """Return the blocks and included files."""
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip()
            self._at += 1
            self._line(line)
        self._flush()
        self._content.blocks = join_lists(self._content.blocks)
        return self._content

    def _line(self, line: str) -> None:
        if not line:
            self._flush_paragraph()
        elif delimiter := _DELIMITER.match(line):
            if self._is_underline(line):
                return
            self._flush()
            self._delimited(delimiter[1], delimiter[2])
        elif line.startswith("//"):
            return
        elif heading := _HEADING.match(line):
            self._heading(heading[2], len(heading[1]))
        elif not self._declaration(line) and not self._is_underline(line):
            self._content_line(line)

    def _declaration(self, line: str) -> bool:
        """Read a line that declares something; return whether it is one."""
        if attribute := _ATTRIBUTE.match(line):
            self._attribute(attribute[1], attribute[2] or "")
        elif macro := _MACRO.match(line):
            self._macro(macro[1], macro[2], macro[3])
        elif _BLOCK_ATTRIBUTES.match(line):
            self._block_attributes(line)
        else:
            return False
        return True

    def _content_line(self, line: str) -> None:
        if line in ("'''", "<<<", "+", "***", "---", "* * *", "- - -"):
            return
        if re.match(r"\.[^\s.].*$", line) and not self._paragraph:
            self._flush_list()
            self._add(MarkupBlock("paragraph", self._inline(line[1:])))
        elif item := _ITEM.match(line):
            self._flush_paragraph()
            self._item(item)
        elif (term := _TERM.match(line)) and not self._paragraph:
            self._flush_paragraph()
            value = f": {self._inline(term[3])}" if term[3] else ":"
            self._list.append(f"- {self._inline(term[1])}{value}")
        else:
            self._text(line)

    def _text(self, line: str) -> None:
        if line.startswith((" ", "\t")) and not self._paragraph and not self._list:
            lines = [line]
            while self._at < len(self._lines) and self._lines[self._at].strip():
                lines.append(self._lines[self._at])
                self._at += 1
            self._add(code_block(lines))
        elif self._list and not self._paragraph and self._lines[self._at - 2].strip():
            self._list[-1] += f" {self._inline(line.strip())}"
        else:
            if self._list and not self._paragraph:
                self._flush_list()
            self._paragraph.append(re.sub(r"[ \t]\+$", "", line.strip()))

    def _is_underline(self, line: str) -> bool:
        """Make a heading of the line before, if this one underlines it."""
        mark = line[0]
        title = self._paragraph[0] if len(self._paragraph) == 1 else ""
        if mark not in _UNDERLINES or line.strip(mark) or not title or abs(len(line) - len(title)) > 2:
            return False
        self._paragraph.clear()
        self._heading(title, _UNDERLINES[mark])
        return True

    def _heading(self, text: str, level: int) -> None:
        self._flush()
        is_first = not self._content.blocks
        self._add(MarkupBlock("heading", self._inline(text), level))
        if level == 1 and is_first:
            self._authors()

    def _authors(self) -> None:
        """Read the lines of author and revision after the title of the document."""
        line = self._lines[self._at].strip() if self._at < len(self._lines) else ""
        author = re.match(r"((?:[^\W\d][\w.'-]*[ \t]+){0,2}[^\W\d][\w'-]*)[ \t]+<([^<>\s]+)>", line)
        if author:
            self.attributes.setdefault("author", author[1])
            self._at += 1
            line = self._lines[self._at].strip() if self._at < len(self._lines) else ""
            if revision := re.match(r"v?\d[\w.]*,[ \t]*([^:]+)(?::.*)?$", line):
                self.attributes.setdefault("revdate", revision[1])
                self._at += 1

    def _attribute(self, name: str, value: str) -> None:
        while value.endswith((" \\", " +")) and self._at < len(self._lines):
            value = f"{value[:-2]} {self._lines[self._at].strip()}"
            self._at += 1
        if len(self.attributes) < _MAX_REPLACED:
            self.attributes.setdefault(name.lower(), value)

    def _macro(self, name: str, target: str, text: str) -> None:
        self._flush_paragraph()
        if name == "include":
            self._content.included.append(target)
        elif name in ("image", "video", "audio"):
            self._add(MarkupBlock("paragraph", self._inline(_picture(text))))
        elif name in ("ifdef", "ifndef", "link", "xref") and text:
            self._add(MarkupBlock("paragraph", self._inline(text)))

    def _block_attributes(self, line: str) -> None:
        self._flush_paragraph()
        inner = line.strip()[1:-1]
        self._style = inner if not inner.startswith("[") else self._style
        if re.match(r"(?:quote|verse)\b", inner) and "," in inner:
            by = ", ".join(part.strip(' "') for part in inner.split(",")[1:] if part.strip(' "'))
            self._add(MarkupBlock("paragraph", self._inline(by)))

    def _delimited(self, mark: str, language: str) -> None:
        body: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip()
            self._at += 1
            if line == mark:
                break
            body.append(line)
        style, self._style = self._style, ""
        if mark[-3:] == "===" and mark[0] in "|,:!":
            self._add(MarkupBlock("table", markdown_table(self._rows(body, mark[0], style))))
        elif mark[0] in "-.`" and mark != "--":
            words = [part.strip() for part in style.split(",")]
            self._code(body, language or (words[1] if len(words) > 1 and words[0].startswith("source") else ""))
        elif mark[0] == "/" or (mark[0] == "+" and "pass" not in style):
            return
        else:
            inner = _AsciidocParser(body, self.attributes).content()
            self._content.included += inner.included
            blocks = inner.blocks
            if mark[0] == "_":
                blocks = [MarkupBlock("quote", "\n>\n".join("> " + b.text.replace("\n", "\n> ") for b in blocks))]
            self._content.blocks += blocks

    def _code(self, body: list[str], language: str) -> None:
        included = [match for line in body if (match := re.match(r"include::([^\[]+)\[.*\]$", line.strip()))]
        self._content.included += [match[1] for match in included]
        lines = [re.sub(r"[ \t]*(?:(?://|#|--|;;)[ \t]*)?<\d+>$", "", line) for line in body]
        self._add(code_block((line for line in lines if not line.startswith("include::")), re.sub(r"\W", "", language)))

    def _rows(self, body: list[str], mark: str, style: str) -> Iterator[list[str]]:
        """Yield the rows of a table: by the columns that are declared, else by the cells of the first line."""
        if mark in ",:":
            yield from ([self._inline(cell.strip()) for cell in line.split(mark)] for line in body if line.strip())
            return
        columns = _columns(style)
        cells: list[str] = []
        text = ""
        for line in body:
            parts = re.split(r"(?:(?<=\s)|^)(?:\d+(?:\.\d+)?[+*])?[<^>]?(?:\.[<^>])?[adehlmsv]?(?<!\\)\|", line)
            if len(parts) == 1 and not line.lstrip().startswith("|"):
                parts = re.split(r"(?<!\\)\|", line)
            text += f"\n{parts[0]}"
            for part in parts[1:]:
                cells.append(text)
                text = part
            if not columns and len(parts) > 1:
                columns = len(parts) - 1
        cells = [self._inline(" ".join(cell.replace("\\|", "|").split())) for cell in [*cells, text]][1:]
        columns = columns or 1
        yield from (cells[at : at + columns] for at in range(0, len(cells), columns))

    def _item(self, item: re.Match[str]) -> None:
        mark, text = item[1], self._inline(item[2])
        depth = len(mark) - 1 if mark[0] in "*." else 0
        ordered = mark[0] in ".<" or mark[0].isalnum()
        self._list.append("  " * depth + ("1. " if ordered else "- ") + text)

    def _flush(self) -> None:
        self._flush_paragraph()
        self._flush_list()

    def _flush_paragraph(self) -> None:
        if self._paragraph:
            self._flush_list()
            text = self._inline("\n".join(self._paragraph))
            self._paragraph.clear()
            literal = self._style.split(",")[0] in ("source", "listing", "literal")
            self._add(code_block(text.split("\n")) if literal else MarkupBlock("paragraph", text))
            self._style = ""

    def _flush_list(self) -> None:
        self._add(MarkupBlock("list", "\n".join(self._list)))
        self._list.clear()

    def _add(self, block: MarkupBlock) -> None:
        if block.text.strip():
            self._content.blocks.append(block)

    def _inline(self, text: str) -> str:
        """Return a text without anchors, links' addresses and marks of emphasis, with the values of attributes."""
        text = _REFERENCE.sub(self._value, text)
        text = _LINK.sub(lambda match: _label(match[2]) or match[1], text)
        text = _CROSS.sub(lambda match: match[2] or match[1], text)
        text = _IMAGE.sub(lambda match: _picture(match[2]), _ANCHOR.sub("", text))
        text = _KEYS.sub(r"\1", _NOTE.sub(r" (\1)", text))
        parts = re.split(r"(`[^`\n]*`)", _ROLE.sub("", text))
        for at in range(0, len(parts), 2):
            parts[at] = _STRONG.sub(r"\2", _STRONG.sub(r"\2", parts[at]))
        return "".join(parts).strip()

    def _value(self, match: re.Match[str]) -> str:
        name = match[1].lower()
        return _CHARACTERS.get(name, self.attributes.get(name, match[0]))


def _columns(style: str) -> int:
    match = re.search(r"cols\s*=\s*(?:\"([^\"]*)\"|(\d+\*?))", style)
    if match is None:
        return 0
    total = 0
    for part in re.split("[,;]", match[1] or match[2]):
        repeated = re.match(r"\s*(\d{1,3})\*", part)
        total += int(repeated[1]) if repeated else 1
    return min(total, 1000)


def _label(text: str) -> str:
    """Return the label of a link without its attributes."""
    if quoted := re.match(r"\s*\"([^\"]*)\"", text):
        return quoted[1]
    return re.sub(r",\s*(?:\w+\s*=.*|)$", "", text).removesuffix("^").strip()


def _picture(text: str) -> str:
    """Return the description of a picture, which is its first attribute or its ``alt``."""
    named = re.search(r"\b(?:alt|title)\s*=\s*(?:\"([^\"]*)\"|([^,\]]*))", text)
    if named:
        return (named[1] or named[2] or "").strip()
    first = text.split(",")[0].strip(' "')
    return "" if "=" in first else first

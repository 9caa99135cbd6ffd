"""Extractor for reStructuredText: headings, lists, tables and code without directives, roles and targets.

docutils is not used: it does not know the directives and roles of Sphinx, and leaves out what it does not know.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence

from nearfield.corpus.document import BlockKind, Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.front_matter import field_text, front_matter
from nearfield.corpus.extractors.markup_blocks import (
    MarkupBlock,
    MarkupContent,
    code_block,
    join_lists,
    list_item,
    text_fields,
)
from nearfield.corpus.extractors.restructuredtext_tables import grid_rows, simple_rows
from nearfield.corpus.extractors.text_encoding import decode

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*[ \t]*$")
_DIRECTIVE = re.compile(r"\.\.[ \t]+(?:\|([^|\n]+)\|[ \t]+)?([\w:.+-]+?)::(?:[ \t]+(.*))?$")
_NOTE = re.compile(r"\.\.[ \t]+\[([#*]?[\w.-]*)\][ \t]+(.*)$")
_FIELD = re.compile(r":([^:\n]+(?:\\:[^:\n]*)*):(?:[ \t]+(.*))?$")
_BULLET = re.compile(r"([*+\u2022-])(?:[ \t]+|$)")
_NUMBER = re.compile(r"\(?(\d{1,4}|#|[a-zA-Z]|[ivxIVX]+)[.)](?:[ \t]+|$)")
_SIMPLE_TABLE = re.compile(r"=+(?:[ \t]+=+)+[ \t]*$")
_ROLE = re.compile(r":[\w:+.-]+:`([^`\n]*(?:\n[^`\n]+)*)`|`([^`\n]+(?:\n[^`\n]+)*)`:[\w:+.-]+:")
_LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
_LINK = re.compile(r"(?<![\w`:])`(?=\S)([^`<]*?)[ \n]*(?:<([^<>`]*)>)?(?<=\S)`__?(?!\w)")
_REFERENCE = re.compile(r"(?<![\w`])([A-Za-z][\w.+-]*?)__?(?![\w`])")
_SUBSTITUTION = re.compile(r"\|([^|\s](?:[^|\n]*[^|\s])?)\|(?:__?)?")
_FOOTNOTE = re.compile(r"\[([#*]?[\w.-]*)\]_")
_CODE_NAMES = (
    "code-block code sourcecode parsed-literal doctest testcode prompt highlight-code productionlist digraph "
    "graphviz mermaid ipython command-output jinja"
)
_CODE = frozenset(_CODE_NAMES.split())
_SILENT_NAMES = (
    "index highlight currentmodule py:currentmodule role contents sectnum default-role default-domain "
    "tabularcolumns toctree target-notes testsetup testcleanup sectionauthor codeauthor "
    "highlightlang title unicode"
)
_SILENT = frozenset(_SILENT_NAMES.split())
_CHANGES = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_META = {"author": "author", "authors": "author", "date": "date", "version": "version", "organization": "organization"}
_META_FIELD = re.compile(r"^:([\w-]+)[^:\n]*:[ \t]*(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
#: Depth of nested parts above which text is not parsed further.
_MAX_DEPTH = 12


class RestructuredTextExtractor(Extractor):
    """reStructuredText, with the directives of Sphinx."""

    suffixes = dict.fromkeys((".rst", ".rest"), "text/x-rst")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the content of the file."""
        shared = _Shared()
        text = decode(data, name)
        front = front_matter(text)
        lines = text[front.end :].expandtabs(8).splitlines()
        shared.read_definitions(lines)
        parser = _RstParser(lines, shared, 0)
        content = MarkupContent(join_lists(parser.blocks()), included=shared.included)
        content.meta = text_fields(shared.meta)
        content.add_front(front)
        return content.document()


class _Shared:
    """What all parts of a file share: styles of headings, substitutions, fields, included files."""

    def __init__(self) -> None:
        self.styles: list[tuple[str, bool]] = []
        self.substitutions: dict[str, str] = {}
        self.meta: dict[str, str] = {}
        self.included: list[str] = []
        self.targets: set[str] = set()

    def read_definitions(self, lines: Sequence[str]) -> None:
        """Read the texts of ``|name|``, and the names of targets."""
        for line in lines:
            if target := re.match(r"[ ]*\.\.[ \t]+_`?([^`:\n]+)`?:", line):
                self.targets.add(target[1].lower())
            match = _DIRECTIVE.match(line)
            if match and match[1] and match[2] == "replace":
                self.substitutions[match[1].lower()] = match[3] or ""

    def level(self, mark: str, *, overlined: bool) -> int:
        """Return the level of a style of headings: the number of styles that were used before it."""
        style = (mark, overlined)
        if style not in self.styles:
            self.styles.append(style)
        return self.styles.index(style) + 1


class _RstParser:
    def __init__(self, lines: Sequence[str], shared: _Shared, depth: int) -> None:
        self._lines = [line.rstrip() for line in lines]
        self._at = 0
        self._shared = shared
        self._depth = depth
        self._blocks: list[MarkupBlock] = []

    def blocks(self) -> list[MarkupBlock]:
        """Return the blocks of the lines."""
        if self._depth > _MAX_DEPTH:
            return [MarkupBlock("paragraph", self._inline("\n".join(self._lines)))]
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not line:
                self._at += 1
            elif not self._heading(line):
                self._block(line)
        return [block for block in self._blocks if block.text.strip()]

    def _block(self, line: str) -> None:
        if line.startswith(".. ") or line == "..":
            self._explicit(line)
        elif line.startswith("__ "):
            self._at += 1
        elif line.startswith(" "):
            self._blocks += self._parse(self._indented(self._at))
        elif line.startswith("+-"):
            rows = grid_rows(self._taken(lambda text: text.startswith(("+", "|"))))
            self._add("table", markdown_table([[self._inline(cell) for cell in row] for row in rows]))
        elif _SIMPLE_TABLE.match(line):
            self._simple_table()
        elif line.startswith(">>> "):
            self._blocks.append(code_block(self._taken(bool)))
        elif re.match(r"\|(?: |$)", line):
            lines = self._taken(lambda text: text.startswith(("| ", " ", "|")))
            self._add("paragraph", "\n".join(self._inline(text.lstrip("| ").rstrip()) for text in lines))
        elif match := _BULLET.match(line):
            self._item("- ", match.end())
        elif match := _NUMBER.match(line):
            self._item(f"{match[1]}. " if match[1] != "#" else "1. ", match.end())
        elif match := _FIELD.match(line):
            self._field(match)
        else:
            self._paragraph()

    # -- lines -------------------------------------------------------------------------------------------------

    def _taken(self, belongs: Callable[[str], object]) -> list[str]:
        """Take the lines from the current one on that belong to its block."""
        start = self._at
        while self._at < len(self._lines) and belongs(self._lines[self._at]):
            self._at += 1
        return self._lines[start : max(self._at, start + 1)]

    def _indented(self, start: int) -> list[str]:
        """Take the indented lines from ``start`` on, without their common indentation and the last blank lines."""
        end = start
        while end < len(self._lines) and (not self._lines[end] or self._lines[end].startswith(" ")):
            end += 1
        while end > start and not self._lines[end - 1]:
            end -= 1
        self._at = max(end, self._at)
        lines = self._lines[start:end]
        indent = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
        return [line[indent:] for line in lines]

    def _parse(self, lines: Sequence[str]) -> list[MarkupBlock]:
        return _RstParser(lines, self._shared, self._depth + 1).blocks()

    def _add(self, kind: BlockKind, text: str, level: int = 0) -> None:
        self._blocks.append(MarkupBlock(kind, text, level))

    # -- blocks ------------------------------------------------------------------------------------------------

    def _heading(self, line: str) -> bool:
        """Add a heading, or skip a transition; return whether there is one."""
        after = [*self._lines[self._at + 1 : self._at + 3], "", ""]
        over = _ADORNMENT.match(line) if len(line) >= 3 or line == after[1] else None
        if over and after[0].strip() and after[1] and after[1].rstrip() == line.rstrip():
            self._add("heading", self._inline(after[0].strip()), self._shared.level(over[1], overlined=True))
            self._at += 3
            return True
        if over and len(line) >= 4 and not after[0]:
            self._at += 1
            return True
        under = _ADORNMENT.match(after[0]) if not line.startswith((" ", "..")) and not over else None
        if under is None or len(after[0]) < min(len(line), 3) or after[0] in ("::", ".."):
            return False
        self._add("heading", self._inline(line), self._shared.level(under[1], overlined=False))
        self._at += 2
        return True

    def _paragraph(self) -> None:
        start = self._at
        while self._at < len(self._lines) and self._lines[self._at]:
            if self._at > start and self._lines[self._at].startswith(" ") and self._at == start + 1:
                self._definition(self._lines[start])
                return
            self._at += 1
        text = "\n".join(line.strip() for line in self._lines[start : self._at])
        literal = text.endswith("::")
        text = re.sub(r"(?:^|(?<=\s))::$|(?<=\S):(?=:$)", "", text)
        self._add("paragraph", self._inline(text.strip() if text != ":" else ""))
        if literal:
            while self._at < len(self._lines) and not self._lines[self._at]:
                self._at += 1
            if self._at < len(self._lines) and self._lines[self._at].startswith(" "):
                self._blocks.append(code_block(self._indented(self._at)))

    def _definition(self, term: str) -> None:
        """Add a term and its definition: one item if the definition is a paragraph."""
        blocks = self._parse(self._indented(self._at))
        name = self._inline(re.sub(r"[ \t]+:[ \t]+", ": ", term))
        if len(blocks) == 1 and blocks[0].kind == "paragraph":
            text = blocks[0].text.replace("\n", " ")
            self._add("list", f"- {name}{'' if name.endswith(':') else ':'} {text}")
        else:
            self._add("paragraph", name)
            self._blocks += blocks

    def _item(self, mark: str, width: int) -> None:
        first = self._lines[self._at][width:]
        self._at += 1
        following: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line and len(line) - len(line.lstrip()) < min(width, 2):
                break
            following.append(line)
            self._at += 1
        indent = min((len(line) - len(line.lstrip()) for line in following if line), default=0)
        blocks = self._parse([first, *(line[indent:] for line in following)])
        if any(block.kind in ("heading", "table") for block in blocks):
            self._blocks += blocks
        else:
            self._add("list", list_item(mark, blocks))

    def _field(self, match: re.Match[str]) -> None:
        self._at += 1
        lines = self._indented(self._at)
        value = "\n".join([match[2] or "", *lines]).strip()
        name = match[1].strip()
        if not self._depth and name.lower() in _META and len(self._blocks) < 4:
            self._shared.meta.setdefault(_META[name.lower()], self._inline(value))
        blocks = self._parse(value.split("\n")) if value else []
        self._add("list", list_item(f"- {self._inline(name)}: ", blocks) if blocks else f"- {self._inline(name)}")

    def _simple_table(self) -> None:
        start, borders = self._at, 0
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if _SIMPLE_TABLE.match(line):
                borders += 1
                ends = self._at + 1 >= len(self._lines) or not self._lines[self._at + 1]
                if borders >= 3 or (borders == 2 and ends):
                    self._at += 1
                    break
            self._at += 1
        rows = simple_rows(self._lines[start : self._at])
        self._add("table", markdown_table([[self._inline(cell) for cell in row] for row in rows]))

    # -- directives --------------------------------------------------------------------------------------------

    def _explicit(self, line: str) -> None:
        note, directive = _NOTE.match(line), _DIRECTIVE.match(line)
        self._at += 1
        body = self._indented(self._at)
        if note:
            text = " ".join([note[2], *(part.strip() for part in body)])
            self._add("paragraph", f"[{note[1].lstrip('#')}] {self._inline(text)}")
        elif directive:
            self._directive(directive, body)

    def _directive(self, directive: re.Match[str], body: list[str]) -> None:
        name, argument = directive[2].lower(), (directive[3] or "").strip()
        if name == "meta":
            self._add("paragraph", field_text(dict(_META_FIELD.findall("\n".join(body)))))
            return
        options: dict[str, str] = {}
        more: list[str] = []
        while body and body[0]:  # further lines of the argument, then options
            if option := re.match(r":([\w-]+):(?:[ \t]+(.*))?$", body[0]):
                options[option[1].lower()] = option[2] or ""
            elif argument and not options and name not in _ADMONITION_LIKE:
                more.append(body[0].strip())
            else:
                break
            body = body[1:]
        argument = "\n".join(filter(None, [argument, *more]))
        self._run(name, argument, options, body, is_substitution=directive[1] is not None)

    def _run(
        self, name: str, argument: str, options: dict[str, str], body: list[str], *, is_substitution: bool
    ) -> None:
        if is_substitution or name in _SILENT:
            self._add("paragraph", self._inline(options.get("caption", "")))
        elif name in ("include", "literalinclude") or "file" in options:
            self._shared.included.append(argument if "include" in name else options.get("file", argument))
        elif name in _CODE:
            self._add("paragraph", self._inline(options.get("caption", "")))
            language = re.sub(r"\W", "", argument) if name in ("code-block", "code", "sourcecode") else ""
            extra = [] if language or not argument else [argument]
            self._blocks.append(code_block([*extra, *body], language))
        elif name == "math":
            formula = " ".join(" ".join([argument, *body]).split())
            self._add("paragraph", f"$${formula}$$" if formula else "")
        elif name in ("image", "figure"):
            self._add("paragraph", self._inline(options.get("alt", "")))
            self._blocks += self._parse(body)
        elif name in ("list-table", "csv-table"):
            self._add("paragraph", self._inline(argument))
            self._add("table", self._table(name, options, body))
        elif name == "raw":
            self._add(
                "paragraph", " ".join(re.sub(r"<[^<>]*>", " ", "\n".join(body)).split()) if "html" in argument else ""
            )
        elif name in _CHANGES:
            self._add("paragraph", self._inline(f"{_CHANGES[name]} {argument}"))
            self._blocks += self._parse(body)
        else:
            text = (
                "" if name in ("only", "ifconfig", "container", "class", "rst-class", "tabs", "glossary") else argument
            )
            self._add("paragraph", self._inline(text))
            self._blocks += self._parse(body)

    def _table(self, name: str, options: dict[str, str], body: list[str]) -> str:
        if name == "csv-table":
            mark = options.get("delim", ",")
            lines = [options["header"]] if "header" in options else []
            rows = [
                list(row)
                for row in csv.reader([*lines, *body], delimiter=mark if len(mark) == 1 else ",", skipinitialspace=True)
            ]
        else:
            rows = []
            for row in re.split(r"^\*(?=[ \t]|$)", "\n".join(body), flags=re.MULTILINE)[1:]:
                cells = re.split(r"^[ \t]*-(?=[ \t]|$)", row, flags=re.MULTILINE)[1:]
                rows.append([" ".join(cell.split()) for cell in cells])
        return markdown_table([[self._inline(cell) for cell in row] for row in rows])

    # -- text --------------------------------------------------------------------------------------------------

    def _inline(self, text: str) -> str:
        """Return a text without roles, links' addresses and references; literals are in backticks."""
        parts = re.split(r"(``.+?``)", text, flags=re.DOTALL)
        parts = [_LITERAL.sub(r"`\1`", part) if number % 2 else self._plain(part) for number, part in enumerate(parts)]
        return "".join(parts)

    def _plain(self, text: str) -> str:
        text = _SUBSTITUTION.sub(lambda match: self._shared.substitutions.get(match[1].lower(), match[0]), text)
        text = _ROLE.sub(lambda match: _label(match[1] or match[2] or ""), text)
        text = _LINK.sub(lambda match: match[1].strip() or match[2] or "", text)
        text = _FOOTNOTE.sub(lambda match: f"[{match[1].lstrip('#')}]", text)
        text = _REFERENCE.sub(lambda match: match[1] if match[1].lower() in self._shared.targets else match[0], text)
        text = re.sub(r"(?<![`\w])_?`([^`\n]+)`", r"\1", text)
        return re.sub(r"\\(?:\s|(\S))", r"\1", text)


#: Directives whose first lines of content may follow the argument.
_ADMONITION_LIKE = frozenset(
    ("note", "warning", "tip", "hint", "important", "caution", "danger", "error", "attention", "admonition", "seealso",
     "todo", "versionadded", "versionchanged", "deprecated", "versionremoved", "topic", "sidebar", "rubric", "epigraph")
)  # fmt: skip


def _label(text: str) -> str:
    """Return the text of a role: its title, or its target without the mark that shortens it."""
    if (titled := re.match(r"(.*?)\s*<[^<>]*>$", text, re.DOTALL)) and titled[1]:
        return titled[1]
    return text.rpartition(".")[2] if text.startswith("~") else text.lstrip("!")

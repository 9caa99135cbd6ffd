"""Extractor for LaTeX: text, headings, lists, tables and formulas without commands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.latex_commands import ACCENTS, ARGUMENTS, INCLUDES, LEVELS, SYMBOLS
from nearfield.corpus.extractors.latex_source import CODE, DEFINING, MacroTable, balanced, without_comments
from nearfield.corpus.extractors.markup_blocks import MarkupBlock, MarkupContent, code_block, text_fields
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words

_MATH_NAMES = "equation align gather multline displaymath math eqnarray flalign alignat subequations dmath"
_MATH = frozenset(name + star for name in _MATH_NAMES.split() for star in ("", "*"))
_TABLES = frozenset(("tabular", "tabular*", "tabularx", "longtable", "tabulary", "array", "tblr", "supertabular"))
_TOKEN = re.compile(
    r"\\begin[ \t]*\{(?P<begin>[\w*]+)\}|\\end[ \t]*\{(?P<end>[\w*]+)\}|\\(?P<command>[a-zA-Z@]+\*?|.|\n)"
    r"|(?P<math>\$\$.+?(?<!\\)\$\$|\$(?:[^$\\]|\\.)+\$)|(?P<blank>\n[ \t]*\n\s*)|(?P<brace>[{}])"
    r"|(?P<text>[^\\${}\n]+|\n|\$)",
    re.DOTALL,
)
#: What a title page shows beside the title.
_FRONT = (
    "subtitle", "author", "institute", "affil", "affiliation", "address", "email", "date", "keywords", "abstract",
)  # fmt: skip
_FRONT_COMMAND = re.compile(rf"(?<!\\)\\(?P<name>title|{'|'.join(_FRONT)})\*?[ \t]*(?:\[[^\]]*\])?[ \t\n]*(?=\{{)")
#: What makes the text of a macro more than a piece of a line.
_BLOCKS = re.compile(
    r"\\(?:begin|end|item|par|part|chapter|(?:sub)*section|(?:sub)?paragraph|caption|\\)(?![a-zA-Z])|\n\s*\n|&"
)
_TITLE_PAGE = re.compile(r"\\maketitle|\\titlepage|\\begin\{(?:frontmatter|titlepage)\}")
#: Parts of the title page that have their name before them.
_LABELLED = ("keywords", "abstract")
_SIGN = re.compile(r"\s*(\\(?:[a-zA-Z]+|.)|[^\s{}\\])")
_ESCAPED = re.compile(r"\\([%#&_{}~$])")
_LISTING_CAPTION = re.compile(r"[ \t]*\[[^\]]*?(?:caption|title)\s*=\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|([^,\]]+))")
#: Texts in drawings: of nodes, and around plots.
_LABELS = re.compile(r"(?:node[^{;]*|\b(?:title|[xyz]label)\s*=\s*|\\(?:addlegendentry|legend)\s*)\{([^{}]*)\}")
_PLAIN_FILE = re.compile(r"[ \t]*([^\s{}\\%\[]+)")
_ALT = re.compile(r"(?:^|,)\s*alt\s*=\s*(?:\{([^{}]*)\}|([^,]*))")
_LIGATURES = (("---", "\u2014"), ("--", "\u2013"), ("``", "\u201c"), ("''", "\u201d"), ("~", "\u00a0"))
#: Definitions, figures and formulas; commands with arguments that are no text.
_NOT_TEXT = re.compile(
    r"\\(?:re)?newcommand[^\n]*|\\begin\{(tikzpicture|filecontents|comment)\}.*?\\end\{\1\}|\$[^$]*\$", re.DOTALL
)
_NOT_VISIBLE = re.compile(
    r"\\(?:label|\w*ref|\w*cite\w*|begin|end|bibitem|input|include\w*|[vh]space|set\w+|bibliography\w*|href|rule)\*?"
    r"(?:\s*\[[^\]]*\])*(?:\{[^{}]*\}){0,2}|\\[a-zA-Z@]+\*?(?:\[[^\]\n]*\])?|\\."
)
#: Depth of arguments that are read.
_MAX_DEPTH = 8
#: What ends the name of a command, and is no text.
_AFTER_NAME = re.compile(r"\{\}|[ \t]+")
#: Separates cells and rows while a table is read.
_CELL, _ROW = "\x1f", "\x1e"


class LatexExtractor(Extractor):
    """LaTeX."""

    suffixes = dict.fromkeys((".tex", ".latex", ".ltx"), "application/x-tex")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the content of the file, with its title page first if it has one."""
        source = decode(data, name).replace("\r\n", "\n").replace("\r", "\n")
        text = without_comments(source)
        preamble, begin, body = text.partition("\\begin{document}")
        if not begin:
            preamble, body = "", text
        body = body.rpartition("\\end{document}")[0] or body  # the last one: code may have another
        macros = MacroTable()
        front = list(_front(macros.outside(preamble), macros))
        parser = _LatexParser(body, macros)
        content = parser.content()
        front += parser.front
        content.title = next((value for field, value in front if field == "title"), "")
        if _TITLE_PAGE.search(body):
            content.blocks[:0] = _title_page(front)
        authors = ", ".join(value for field, value in front if field == "author")
        content.meta = text_fields({"author": authors, **{field: value for field, value in front if field == "date"}})
        content.losses += _losses(parser.pictures, macros)
        document = content.document()
        if not document.text:
            return Document(source, tuple(paragraphs(source)))
        return replace(document, visible_words=_count_visible(body))


def _front(preamble: str, macros: MacroTable) -> Iterator[tuple[str, str]]:
    """Yield what the title page shows: the name of the command, and its text."""
    for match in _FRONT_COMMAND.finditer(preamble):
        text = _plain(balanced(preamble, match.end())[0], macros).replace(" ,", ",")
        if text:
            yield match["name"], text


def _title_page(front: Iterable[tuple[str, str]]) -> list[MarkupBlock]:
    values = [(field, value) for field, value in front if value]
    titles = [MarkupBlock("heading", value, 1) for field, value in values if field == "title"][:1]
    lines = [value for field, value in values if field not in ("title", *_LABELLED)]
    labelled = [f"{field.capitalize()}: {value}" for field, value in values if field in _LABELLED]
    return [*titles, MarkupBlock("paragraph", "\n".join(lines)), *(MarkupBlock("paragraph", text) for text in labelled)]


def _losses(pictures: int, macros: MacroTable) -> Iterator[Loss]:
    if pictures:
        yield Loss(f"{pictures} picture{'s' * (pictures > 1)} without a description")
    if macros.refused:
        names = ", ".join(f"\\{name}" for name in sorted(macros.refused)[:3])
        yield Loss(f"the text of macros that make the file too long ({names})")


def _count_visible(body: str) -> int:
    """Return about how many words a reader sees, without parsing: those that are in no command and no comment."""
    return count_words(_NOT_VISIBLE.sub(" ", _NOT_TEXT.sub(" ", MacroTable().outside(body))))


def _plain(text: str, macros: MacroTable, depth: int = 0) -> str:
    """Return a piece of LaTeX as one line of text."""
    if depth > _MAX_DEPTH:
        return " ".join(_NOT_VISIBLE.sub(" ", text).split())
    return " ".join(" ".join(block.text for block in _LatexParser(text, macros, depth).content().blocks).split())


class _LatexParser:
    def __init__(self, text: str, macros: MacroTable, depth: int = 0) -> None:
        self._text = text
        self._macros = macros
        self._depth = depth
        self._at = 0
        self._content = MarkupContent()
        self._parts: list[str] = []
        #: Title, authors and date, in order.
        self.front: list[tuple[str, str]] = []
        #: The number of pictures without a description.
        self.pictures = 0
        #: Open lists: the name of the environment and the number of items; the items of the outermost.
        self._lists: list[list[str | int]] = []
        self._items: list[str] = []
        self._table = 0
        self._quotes = 0

    def content(self) -> MarkupContent:
        """Return the blocks."""
        while match := _TOKEN.match(self._text, self._at):
            self._at = match.end()
            self._token(match)
        self._flush()
        self._flush_list()
        return self._content

    def _token(self, match: re.Match[str]) -> None:
        kind = match.lastgroup
        value = match[kind or "text"]
        if kind == "begin":
            self._begin(value)
        elif kind == "end":
            self._end(value)
        elif kind == "command":
            self._command(value)
        elif kind == "blank":
            self._flush() if not self._table else self._parts.append(" ")
        elif kind == "brace" and value == "}" and self._next() == "{":
            self._parts.append(" ")
        elif kind == "math":
            self._parts.append(" ".join(value.split()))
        elif kind == "text":
            for old, new in _LIGATURES:
                value = value.replace(old, new)
            self._parts.append(value.replace("&", _CELL) if self._table else value)

    # -- environments ------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        if name in CODE or name in _MATH or name in ("tikzpicture", "filecontents", "comment", "thebibliography"):
            body = self._body(name)
            if body is not None:
                self._raw(name, body)
            return
        if name in _TABLES:
            self._flush()
            self._skip_arguments(2 if name in ("tabular*", "tabularx", "tabulary") else 1)
            self._table += 1
            return
        self._flush()
        if name in ("itemize", "enumerate", "description", "compactitem", "compactenum"):
            self._options()
            self._lists.append([name, 0])
        elif name in ("quote", "quotation", "verse"):
            self._quotes += 1
        elif name in ("figure", "figure*", "table", "table*"):
            self._options()
        elif name in ("minipage", "wrapfigure", "multicols", "adjustbox", "spacing"):
            self._options()
            self._skip_arguments(2 if name == "wrapfigure" else 1)
        elif option := self._options():  # the name of a theorem
            self._parts.append(f"{self._inner(option)}: ")

    def _body(self, name: str) -> str | None:
        end = self._text.find(f"\\end{{{name}}}", self._at)
        if end < 0:
            return None
        body, self._at = self._text[self._at : end], end + len(f"\\end{{{name}}}")
        return body

    def _raw(self, name: str, body: str) -> None:
        if name in CODE:
            self._flush()
            if match := _LISTING_CAPTION.match(body):
                self._add(MarkupBlock("paragraph", self._inner(match[1] or match[2])))
            body = re.sub(r"^(?:[ \t]*\[[^\]\n]*\])?(?:\{\w+\})?[ \t]*\n", "", body)
            self._add(code_block(body.split("\n")))
        elif name in _MATH:
            body = re.sub(r"\\(?:label|tag)\{[^{}]*\}|\\(?:nonumber|notag)\b", "", body)
            self._parts.append(f" $${' '.join(body.split())}$$ ")
        elif name == "thebibliography":
            self._flush()
            for entry in re.split(r"\\bibitem(?:\[[^\]]*\])?\{[^{}]*\}", body)[1:]:
                self._add(MarkupBlock("paragraph", self._inner(entry)))
        elif name == "tikzpicture":
            labels = _LABELS.findall(body)
            self._flush()
            self._add(MarkupBlock("paragraph", " ".join(filter(None, map(self._inner, labels)))))

    def _end(self, name: str) -> None:
        if name in _TABLES and self._table:
            self._table -= 1
            if not self._table:
                rows = [row.split(_CELL) for row in "".join(self._parts).split(_ROW)]
                self._parts.clear()
                self._add(MarkupBlock("table", markdown_table([[_clean(cell) for cell in row] for row in rows])))
            return
        self._flush()
        if self._lists and name == self._lists[-1][0]:
            self._lists.pop()
            if not self._lists:
                self._flush_list()
        elif name in ("quote", "quotation", "verse"):
            self._quotes = max(0, self._quotes - 1)

    # -- commands ----------------------------------------------------------------------------------------------

    def _command(self, name: str) -> None:
        if name == "\\":
            self._options()
            self._parts.append(_ROW if self._table else "\n")
        elif name in ("(", "["):
            self._formula(name)
        else:
            self._named(name.rstrip("*") if name != "*" else name)

    def _named(self, bare: str) -> None:
        if bare in LEVELS:
            self._heading(LEVELS[bare])
        elif bare in self._HANDLERS:
            self._HANDLERS[bare](self, bare)
        elif bare in ACCENTS and (not bare.isalpha() or self._next() in "{ "):
            self._accent(bare)
        elif bare in SYMBOLS:
            self._symbol(bare)
        elif bare in ARGUMENTS:
            self._silent(bare)
        elif bare in DEFINING:
            self._at = self._macros.define(bare, self._text, self._at)
        elif bare in self._macros.macros:
            self._expand(bare)
        elif bare.isalpha():
            self._options()

    def _field(self, name: str) -> None:
        self._options()
        self.front.append((name, self._inner(self._argument()).replace(" ,", ",")))

    def _footnote(self, _: str) -> None:
        self._options()
        self._parts.append(f" ({self._inner(self._argument())})")

    def _expand(self, name: str) -> None:
        """Read the text of a macro, as a piece of the line if it is one, else in place of the macro."""
        macro = self._macros.macros[name]
        arguments = [] if macro.default is None else [self._options() or macro.default]
        while len(arguments) < macro.arguments:
            arguments.append(self._argument() or self._sign())
        if not arguments and self._text.startswith("{}", self._at):
            self._at += 2
        text = self._macros.expand(name, arguments)
        if _BLOCKS.search(text):
            self._text, self._at = text + self._text[self._at :], 0
        elif text:
            before, after = " " * text[0].isspace(), " " * text[-1].isspace()
            self._parts.append(f"{before}{self._inner(text)}{after}")

    def _sign(self) -> str:
        """Return an argument without braces: a letter, or a command."""
        match = _SIGN.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[1] if match else ""

    def _inner(self, text: str) -> str:
        """Return an argument as one line of text."""
        return _plain(text, self._macros, self._depth + 1)

    def _formula(self, opening: str) -> None:
        end = self._text.find("\\)" if opening == "(" else "\\]", self._at)
        if end < 0:
            return
        mark = "$" if opening == "(" else "$$"
        self._parts.append(f"{mark}{' '.join(self._text[self._at : end].split())}{mark}")
        self._at = end + 2

    def _heading(self, level: int) -> None:
        self._options()
        text = self._inner(self._argument())
        self._flush()
        self._flush_list()
        self._add(MarkupBlock("heading", text, level))

    def _item(self, _: str) -> None:
        self._flush()
        label = self._options()
        if not self._lists:
            self._lists.append(["itemize", 0])
        top = self._lists[-1]
        top[1] = int(top[1]) + 1
        mark = f"{top[1]}. " if "enum" in str(top[0]) else "- "
        named = f"{self._inner(label)}: " if label else ""
        self._items.append("  " * (len(self._lists) - 1) + mark + named)

    def _verbatim(self, name: str) -> None:
        if name != "verb":
            self._options()
        if name == "mintinline":
            self._argument()
        code = self._raw_argument()
        self._parts.append(f"`{code}`" if code else "")

    def _raw_argument(self) -> str:
        """Return an argument as it is written, in braces or between two equal signs."""
        mark = self._next()
        if mark == "{":
            return self._argument()
        end = self._text.find(mark, self._at + 1)
        if end < 0:
            return ""
        code, self._at = self._text[self._at + 1 : end], end + 1
        return code

    def _address(self, _: str) -> None:
        self._parts.append(_ESCAPED.sub(r"\1", self._argument() or self._raw_argument()))

    def _picture(self, _: str) -> None:
        alt = _ALT.search(self._options())
        self._argument()
        text = self._inner(alt[1] or alt[2] or "") if alt else ""
        self._parts.append(f" Picture: {text} " if text else "")
        self.pictures += not text

    def _caption(self, name: str) -> None:
        self._options()
        if name == "captionof":
            self._argument()
        text, table = self._inner(self._argument()), self._table
        if table:
            self._parts.append(_ROW)
        else:
            self._flush()
        self._add(MarkupBlock("paragraph", text))

    def _accent(self, mark: str) -> None:
        base = self._argument() or self._character()
        base = {"\\i": "i", "\\j": "j"}.get(base.strip(), base)
        if base and base.isalpha():
            self._parts.append(unicodedata.normalize("NFC", base[0] + ACCENTS[mark] + base[1:]))
        else:
            self._parts.append(base)

    def _character(self) -> str:
        if match := re.compile(r"[ \t]*(\\[ij](?![a-zA-Z])[ \t]?|[^\W\d_])").match(self._text, self._at):
            self._at = match.end()
            return match[1]
        return ""

    def _symbol(self, name: str) -> None:
        self._parts.append(SYMBOLS[name])
        if name == "par":
            self._flush()
        elif name.isalpha() and (match := _AFTER_NAME.match(self._text, self._at)):
            self._at = match.end()

    def _silent(self, name: str) -> None:
        self._options()
        arguments = [self._argument()] if ARGUMENTS[name] else []
        for _ in range(ARGUMENTS[name] - 1):
            self._options()
            arguments.append(self._argument())
        self._options()
        if name in INCLUDES:
            self._content.included += filter(None, ["".join(arguments) or self._plain_file()])

    def _plain_file(self) -> str:
        """Return the name of a file without braces."""
        match = _PLAIN_FILE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[1] if match else ""

    # -- arguments ---------------------------------------------------------------------------------------------

    def _next(self) -> str:
        return self._text[self._at : self._at + 1] or "\0"

    def _argument(self) -> str:
        match = re.compile(r"\s*").match(self._text, self._at)
        at = match.end() if match else self._at
        if self._text[at : at + 1] != "{":
            return ""
        argument, self._at = balanced(self._text, at)
        return argument

    def _options(self) -> str:
        options = ""
        while self._next() == "[":
            options, end = balanced(self._text, self._at)
            if end == self._at or len(options) > 500 or "\n\n" in options:
                return ""
            self._at = end
        return options

    def _skip_arguments(self, count: int) -> None:
        self._options()
        for _ in range(count):
            self._argument()
            self._options()

    # -- blocks ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._table:
            return
        text = _clean("".join(self._parts))
        self._parts.clear()
        if not text:
            return
        if self._items:
            self._items[-1] += ("" if self._items[-1].endswith(" ") else " ") + text.replace("\n", " ")
        elif self._quotes:
            self._add(MarkupBlock("quote", "> " + text.replace("\n", "\n> ")))
        else:
            self._add(MarkupBlock("paragraph", text))

    def _flush_list(self) -> None:
        self._lists.clear()
        items, self._items = self._items, []
        self._add(MarkupBlock("list", "\n".join(item.rstrip() for item in items)))

    def _add(self, block: MarkupBlock) -> None:
        if block.text.strip():
            self._content.blocks.append(block)

    _HANDLERS: ClassVar[Mapping[str, Callable[[_LatexParser, str], None]]] = {
        **dict.fromkeys(("title", "author", "date"), _field),
        **dict.fromkeys(("verb", "lstinline", "mintinline"), _verbatim),
        **dict.fromkeys(("footnote", "footnotetext", "thanks", "marginpar"), _footnote),
        **dict.fromkeys(("url", "path", "nolinkurl"), _address),
        **dict.fromkeys(("caption", "captionof"), _caption),
        "item": _item,
        "includegraphics": _picture,
    }


def _clean(text: str) -> str:
    lines = (" ".join(line.split(" ")).strip() for line in re.sub(r"[ \t]+", " ", text).split("\n"))
    return "\n".join(line for line in lines if line)

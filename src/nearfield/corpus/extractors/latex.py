"""Extractor for LaTeX: text, headings, lists, tables and formulas without commands."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.markup_blocks import MarkupBlock, MarkupContent, code_block, text_fields
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words

_LEVELS = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
_CODE = frozenset(("verbatim", "Verbatim", "lstlisting", "minted", "alltt", "verbatim*", "code"))
_MATH_NAMES = "equation align gather multline displaymath math eqnarray flalign alignat subequations dmath"
_MATH = frozenset(name + star for name in _MATH_NAMES.split() for star in ("", "*"))
_TABLES = frozenset(("tabular", "tabular*", "tabularx", "longtable", "tabulary", "array", "tblr", "supertabular"))
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*(?:\n[ \t]*(?=\S)|(?=\n)|\Z)")
_COMMENT_LINE = re.compile(r"^[ \t]*%[^\n]*\n", re.MULTILINE)
_CODE_PART = re.compile(
    r"(\\begin\{(?:verbatim|Verbatim|lstlisting|minted)\*?\}"
    r".*?\\end\{(?:verbatim|Verbatim|lstlisting|minted)\*?\})",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"\\begin[ \t]*\{(?P<begin>[\w*]+)\}|\\end[ \t]*\{(?P<end>[\w*]+)\}|\\(?P<command>[a-zA-Z@]+\*?|.|\n)"
    r"|(?P<math>\$\$.+?(?<!\\)\$\$|\$(?:[^$\\]|\\.)+\$)|(?P<blank>\n[ \t]*\n\s*)|(?P<brace>[{}])"
    r"|(?P<text>[^\\${}\n]+|\n|\$)",
    re.DOTALL,
)
#: Commands without text for readers, and the number of their arguments in braces.
_SILENT = (
    "label:1 ref:0 cite:1 citep:1 citet:1 autocite:1 parencite:1 footcite:1 nocite:1 usepackage:1 "
    "documentclass:1 bibliography:1 bibliographystyle:1 includegraphics:1 vspace:1 hspace:1 pagestyle:1 "
    "thispagestyle:1 newcommand:2 renewcommand:2 providecommand:2 newenvironment:3 setlength:2 addtolength:2 "
    "setcounter:2 addtocounter:2 hypersetup:1 graphicspath:1 definecolor:3 color:1 fontsize:2 pagenumbering:1 "
    "addcontentsline:3 index:1 theoremstyle:1 newtheorem:2 DeclareMathOperator:2 ifthenelse:0 setstretch:1 "
    "geometry:1 captionsetup:1 cline:1 cmidrule:1 rule:2 phantom:1 vphantom:1 hphantom:1 hypertarget:1 "
    "pagecolor:1 rowcolor:1 cellcolor:1 columncolor:1 lstset:1 tikzset:1 usetikzlibrary:1 selectlanguage:1 "
    "fancyhf:1 lhead:1 rhead:1 cfoot:1 rowcolors:3 arraystretch:0 linespread:1 addbibresource:1 markboth:2 "
    "markright:1 stepcounter:1 refstepcounter:1 let:0 def:0 bibitem:1 raisebox:1 resizebox:2 scalebox:1 "
    "textcolor:1 colorbox:1 href:1 makebox:0 parbox:1 foreignlanguage:1 multirow:2 multicolumn:2 input:1 "
    "include:1 subfile:1 lstinputlisting:1 verbatiminput:1 eqref:1 pageref:1 autoref:1 cref:1 Cref:1 nameref:1 "
    "vref:1"
)
_ARGUMENTS = {name: int(count) for name, _, count in (entry.partition(":") for entry in _SILENT.split())} | {"ref": 1}
_INCLUDES = frozenset(("input", "include", "subfile", "lstinputlisting", "verbatiminput"))
_ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a", "d": "\u0323",
    "b": "\u0331",
}  # fmt: skip
_SYMBOLS = {
    "ss": "\u00df", "o": "\u00f8", "O": "\u00d8", "l": "\u0142", "L": "\u0141", "ae": "\u00e6", "AE": "\u00c6",
    "oe": "\u0153", "OE": "\u0152", "aa": "\u00e5", "AA": "\u00c5", "i": "i", "j": "j", "dots": "...", "ldots": "...",
    "textellipsis": "...", "S": "\u00a7", "P": "\u00b6", "copyright": "\u00a9", "pounds": "\u00a3", "euro": "\u20ac",
    "texteuro": "\u20ac", "textdegree": "\u00b0", "textbackslash": "\\", "textasciitilde": "~", "textbar": "|",
    "textasciicircum": "^", "textendash": "\u2013", "textemdash": "\u2014", "quad": " ", "qquad": " ", "LaTeX": "LaTeX",
    "TeX": "TeX", "today": "", "textquotesingle": "'", "textless": "<", "textgreater": ">", "newline": "\n", " ": " ",
    "\n": " ", ",": " ", ";": " ", ":": " ", "!": "", "/": "", "-": "", "@": "", "&": "&", "%": "%", "$": "$", "#": "#",
    "_": "_", "{": "{", "}": "}", "par": "\n\n", "tabularnewline": "\n",
}  # fmt: skip
_LIGATURES = (("---", "\u2014"), ("--", "\u2013"), ("``", "\u201c"), ("''", "\u201d"), ("~", "\u00a0"))
#: Definitions, figures and formulas; commands with arguments that are no text.
_NOT_TEXT = re.compile(
    r"\\(?:re)?newcommand[^\n]*|\\begin\{(tikzpicture|filecontents|comment)\}.*?\\end\{\1\}|\$[^$]*\$", re.DOTALL
)
_NOT_VISIBLE = re.compile(
    r"\\(?:label|\w*ref|\w*cite\w*|begin|end|bibitem|input|include\w*|[vh]space|set\w+|bibliography\w*|href|rule)\*?"
    r"(?:\s*\[[^\]]*\])*(?:\{[^{}]*\}){0,2}|\\[a-zA-Z@]+\*?(?:\[[^\]\n]*\])?|\\."
)
_BRACES = re.compile(r"\\.|[{}\[\]]", re.DOTALL)
#: Maximum number of characters of an argument in braces and of options in brackets; depth of arguments.
_MAX_ARGUMENT, _MAX_OPTIONS, _MAX_DEPTH = 10_000, 600, 8
#: What ends the name of a command, and is no text.
_AFTER_NAME = re.compile(r"\{\}|[ \t]+")
#: Separates cells and rows while a table is read.
_CELL, _ROW = "\x1f", "\x1e"


class LatexExtractor(Extractor):
    """LaTeX."""

    suffixes = dict.fromkeys((".tex", ".latex", ".ltx"), "application/x-tex")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the content of the file."""
        text = decode(data, name).replace("\r\n", "\n").replace("\r", "\n")
        preamble, begin, body = text.partition("\\begin{document}")
        parser = _LatexParser(body.partition("\\end{document}")[0] if begin else text)
        content = parser.content()
        for source in (preamble, text):
            for command in ("title", "author", "date"):
                if command not in parser.fields and (argument := _argument_of(source, command)):
                    parser.fields[command] = _plain(argument)
        content.title = " ".join(parser.fields.pop("title", "").split())
        if content.title and "\\maketitle" in body:
            content.blocks.insert(0, MarkupBlock("heading", content.title, 1))
        content.meta = text_fields(parser.fields)
        document = content.document()
        if not document.text:
            return Document(text, tuple(paragraphs(text)))
        return replace(document, visible_words=_count_visible(body if begin else text))


def _count_visible(text: str) -> int:
    """Return about how many words a reader sees, without parsing: those that are in no command and no comment."""
    text = _without_comments(text.partition("\\end{document}")[0])
    return count_words(_NOT_VISIBLE.sub(" ", _NOT_TEXT.sub(" ", text)))


def _argument_of(text: str, command: str) -> str:
    match = re.search(rf"(?<!\\)\\{command}[ \t]*(?:\[[^\]]*\])?[ \t]*\{{", text)
    return _balanced(text, match.end() - 1)[0] if match else ""


def _plain(text: str, depth: int = 0) -> str:
    """Return a piece of LaTeX as one line of text."""
    if depth > _MAX_DEPTH:
        return " ".join(_NOT_VISIBLE.sub(" ", text).split())
    return " ".join(" ".join(block.text for block in _LatexParser(text, depth).content().blocks).split())


def _balanced(text: str, at: int) -> tuple[str, int]:
    """Return what is in the braces or brackets that open at a position, and the position after them."""
    opening = text[at]
    closing = {"{": "}", "[": "]"}[opening]
    depth = braces = 0
    for match in _BRACES.finditer(text, at, at + (_MAX_ARGUMENT if opening == "{" else _MAX_OPTIONS)):
        sign = match[0]
        braces += (sign == "{") - (sign == "}")
        if sign == opening:
            depth += 1
        elif sign == closing and (opening == "{" or braces <= 0):
            depth -= 1
        if depth <= 0 or braces < 0:
            return text[at + 1 : match.start()], match.end()
    return "", at


class _LatexParser:
    def __init__(self, text: str, depth: int = 0) -> None:
        self._text = _without_comments(text) if not depth else text
        self._depth = depth
        self._at = 0
        self._content = MarkupContent()
        self._parts: list[str] = []
        self.fields: dict[str, str] = {}
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
        if name in _CODE or name in _MATH or name in ("tikzpicture", "filecontents", "comment", "thebibliography"):
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
        if name in _CODE:
            self._flush()
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
            labels = re.findall(r"node[^{;]*\{([^{}]*)\}", body)
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
        if bare in _LEVELS:
            self._heading(_LEVELS[bare])
        elif bare in ("title", "author", "date"):
            self._options()
            self.fields.setdefault(bare, self._inner(self._argument()))
        elif bare == "item":
            self._item()
        elif bare in ("verb", "lstinline"):
            self._verbatim()
        elif bare in ("footnote", "footnotetext", "thanks", "marginpar"):
            self._options()
            self._parts.append(f" ({self._inner(self._argument())})")
        elif bare == "caption":
            self._caption()
        elif bare in _ACCENTS and (not bare.isalpha() or self._next() in "{ "):
            self._accent(bare)
        elif bare in _SYMBOLS:
            self._symbol(bare)
        elif bare in _ARGUMENTS:
            self._silent(bare)
        elif bare.isalpha():
            self._options()

    def _inner(self, text: str) -> str:
        """Return an argument as one line of text."""
        return _plain(text, self._depth + 1)

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

    def _item(self) -> None:
        self._flush()
        label = self._options()
        if not self._lists:
            self._lists.append(["itemize", 0])
        top = self._lists[-1]
        top[1] = int(top[1]) + 1
        mark = f"{top[1]}. " if "enum" in str(top[0]) else "- "
        named = f"{self._inner(label)}: " if label else ""
        self._items.append("  " * (len(self._lists) - 1) + mark + named)

    def _verbatim(self) -> None:
        self._options()
        mark = self._text[self._at : self._at + 1]
        end = self._text.find("}" if mark == "{" else mark, self._at + 1) if mark else -1
        if end > 0:
            self._parts.append(f"`{self._text[self._at + 1 : end]}`")
            self._at = end + 1

    def _caption(self) -> None:
        self._options()
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
            self._parts.append(unicodedata.normalize("NFC", base[0] + _ACCENTS[mark] + base[1:]))
        else:
            self._parts.append(base)

    def _character(self) -> str:
        if match := re.compile(r"[ \t]*(\\[ij](?![a-zA-Z])[ \t]?|[^\W\d_])").match(self._text, self._at):
            self._at = match.end()
            return match[1]
        return ""

    def _symbol(self, name: str) -> None:
        self._parts.append(_SYMBOLS[name])
        if name == "par":
            self._flush()
        elif name.isalpha() and (match := _AFTER_NAME.match(self._text, self._at)):
            self._at = match.end()

    def _silent(self, name: str) -> None:
        self._options()
        first = self._argument() if _ARGUMENTS[name] else ""
        if name in _INCLUDES and first:
            self._content.included.append(first)
        for _ in range(_ARGUMENTS[name] - 1):
            self._options()
            self._argument()
        self._options()

    # -- arguments ---------------------------------------------------------------------------------------------

    def _next(self) -> str:
        return self._text[self._at : self._at + 1] or "\0"

    def _argument(self) -> str:
        match = re.compile(r"\s*").match(self._text, self._at)
        at = match.end() if match else self._at
        if self._text[at : at + 1] != "{":
            return ""
        argument, self._at = _balanced(self._text, at)
        return argument

    def _options(self) -> str:
        options = ""
        while self._next() == "[":
            options, end = _balanced(self._text, self._at)
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


def _without_comments(text: str) -> str:
    """Return a text without comments; those in code stay."""
    parts = _CODE_PART.split(text)
    parts[::2] = [_COMMENT.sub(r"\1", _COMMENT_LINE.sub("", part)) for part in parts[::2]]
    return "".join(parts)


def _clean(text: str) -> str:
    lines = (" ".join(line.split(" ")).strip() for line in re.sub(r"[ \t]+", " ", text).split("\n"))
    return "\n".join(line for line in lines if line)

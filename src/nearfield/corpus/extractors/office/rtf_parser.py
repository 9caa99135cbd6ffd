"""Rich Text Format: tokens, groups and properties of paragraphs, as events for the extractor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
#: Groups without text of the document.
SKIPPED = frozenset({
    "colortbl", "pict", "objdata", "fldinst", "nonshppict", "xe", "tc", "rxe", "pntext", "bkmkstart", "bkmkend",
    "themedata", "colorschememapping", "datastore", "latentstyles", "listtable", "listoverridetable", "rsidtbl",
    "generator", "filetbl", "revtbl", "pntxta", "pntxtb", "shppict", "datafield", "mmathPr", "ftnsep", "ftnsepc",
    "aftnsep", "aftnsepc", "atrfstart", "atrfend", "atnid", "atntime", "atnicn", "atndate", "atnref", "userprops",
    "pgdsctbl", "falt", "panose", "txfieldtext",
})  # fmt: skip
#: Groups that an older reader may skip, and that have text all the same.
_READ = frozenset({
    "annotation", "atnauthor", "shpinst", "shptxt", "moMath", "moMathPara", "listtext", "shprslt", "do", "dptxbxtext",
    "ud", "fldrslt", "result",
})  # fmt: skip
#: Groups whose text is separate from the paragraph around them.
_SEPARATE = frozenset({
    "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "footnote", "annotation",
    "atnauthor", "shptxt", "dptxbxtext", "listtext", "title", "author", "stylesheet", "fonttbl", "info", "sn", "sv",
})  # fmt: skip
#: Properties of shapes that have a text: WordArt, and the description of a picture or shape.
SHAPE_TEXTS = frozenset({"gtextUNICODE", "wzDescription"})
#: The property that is a picture.
_PICTURE = "pib"
_LETTERS = {
    "tab": "\t", "line": "\n", "emdash": "\u2014", "endash": "\u2013", "bullet": "\u2022", "lquote": "\u2018",
    "rquote": "\u2019", "ldblquote": "\u201c", "rdblquote": "\u201d", "emspace": " ", "enspace": " ", "qmspace": " ",
}  # fmt: skip
_SYMBOLS = {b"~": "\u00a0", b"_": "\u2011", b"\\": "\\", b"{": "{", b"}": "}", b"\n": "\n", b"\r": "\n", b"\t": "\t"}
_CODE_PAGES = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
#: Words that end a paragraph, a cell or a row.
_ENDS = frozenset({"par", "sect", "page", "cell", "row", "nestcell", "nestrow", "column"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEADING = re.compile(r"heading ([1-9])$")
#: Depth of groups that are read.
_MAX_DEPTH = 2000


@dataclass(frozen=True)
class RtfEvent:
    """A paragraph's, cell's or row's end (``kind`` is the word of it), or the end of a separate group, with its text.

    ``label`` is the number or bullet of a list's item. ``edges`` are the right edges of a row's cells.
    """

    kind: str
    text: str = ""
    label: str = ""
    style: int = 0
    outline: int | None = None
    level: int = 0
    in_table: bool = False
    edges: tuple[int, ...] = ()
    is_head: bool = False
    merged: tuple[str, ...] = ()


@dataclass
class _Group:
    """The state that a group inherits and that ends with it."""

    code_page: str = "cp1252"
    skip: bool = False
    uc: int = 1
    target: str = ""
    deleted: bool = False
    separate: bool = False
    is_twice: bool = False


@dataclass
class _Paragraph:
    style: int = 0
    outline: int | None = None
    level: int = 0
    in_table: bool = False
    label: str = ""


@dataclass
class _Target:
    """The text of a separate group, or of the document."""

    parts: list[str] = field(default_factory=list)
    paragraph: _Paragraph = field(default_factory=_Paragraph)


class RtfParser:
    """Parses a file into events; ``pictures`` and ``objects`` count what has no text."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.pictures = 0
        self.objects = 0
        #: Names of styles, and their levels in the outline, by number.
        self.styles: dict[int, tuple[str, int | None]] = {}
        self._fonts: dict[int, str] = {}
        self._group = _Group()
        self._stack: list[_Group] = []
        self._targets: list[_Target] = [_Target()]
        self._pending = b""
        self._skip_letters = 0
        self._starred = False
        self._font = 0
        self._edges: list[int] = []
        self._merged: list[str] = []
        self._cell_merge = ""
        self._is_head = False
        #: The property of a shape that is read; whether the open shape counts as a picture, or has a description.
        self._property = ""
        self._is_picture = self._is_described = False

    def events(self) -> Iterator[RtfEvent]:
        """Yield the events of the file in order."""
        position, size = 0, len(self._data)
        while position < size:
            match = _TOKEN.match(self._data, position)
            if match is None:
                position += 1
                continue
            position = match.end()
            word, number, code, symbol, brace, text = match.groups()
            if code is not None:
                self._put_bytes(bytes([int(code, 16)]))
                continue
            if text is not None:
                self._put_bytes(text)
                continue
            self._flush()
            if word is not None:
                value = int(number) if number is not None else None
                if word == b"bin" and value:
                    position += max(value, 0)
                    continue
                yield from self._word(word.decode(), value)
            elif brace == b"{":
                self._open()
            elif brace == b"}":
                yield from self._close()
            elif symbol is not None:
                self._symbol(symbol)
        self._flush()
        if self._text.strip():
            yield self._end("par")

    @property
    def _text(self) -> str:
        text = "".join(self._targets[-1].parts)
        if _SURROGATE.search(text):  # letters beyond the first 65,536 are written as two
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _open(self) -> None:
        if len(self._stack) < _MAX_DEPTH:
            self._stack.append(self._group)
            self._group = replace(self._group, separate=False)
        self._starred = False
        self._skip_letters = 0

    def _close(self) -> Iterator[RtfEvent]:
        self._skip_letters = 0
        group = self._group
        if self._stack:
            self._group = self._stack.pop()
        if group.separate and len(self._targets) > 1:
            yield from self._end_separate(group)
        elif group.target == "stylesheet":
            self._end_style()

    def _end_style(self) -> None:
        """Record the style that ends: its name is the text of its group."""
        target = self._targets[-1]
        name = "".join(target.parts).strip("; \n").lower()
        if name:
            heading = _HEADING.match(name)
            level = int(heading[1]) - 1 if heading else 0 if name == "title" else None
            style = target.paragraph.style
            self.styles[style] = (name, self.styles.get(style, ("", None))[1] if level is None else level)
            target.parts.clear()
            target.paragraph = _Paragraph()

    def _end_separate(self, group: _Group) -> Iterator[RtfEvent]:
        text = self._text
        target = self._targets.pop()
        if group.target in ("stylesheet", "fonttbl", "info"):
            return
        if group.target in ("sn", "sv"):
            yield from self._end_property(group.target, text.strip())
            return
        if group.target == "listtext":
            self._targets[-1].paragraph.label = " ".join(text.split()) or "-"
        elif text.strip():
            yield RtfEvent(group.target, text.strip(), style=target.paragraph.style)

    def _end_property(self, part: str, text: str) -> Iterator[RtfEvent]:
        """Record the name of a shape's property; yield its value if that is a text for readers."""
        if part == "sn":
            self._property = text
            if text == _PICTURE and not self._is_described:
                self._is_picture = True
                self.pictures += 1
        elif self._property in SHAPE_TEXTS and text:
            if self._property == "wzDescription":
                self.pictures -= self._is_picture
                self._is_picture, self._is_described = False, True
            yield RtfEvent(self._property, text)

    def _begin_separate(self, name: str) -> None:
        self._group.target, self._group.separate = name, True
        if name in ("sn", "sv"):  # they are in groups that have no other text
            self._group.skip = name == "sv" and self._property not in SHAPE_TEXTS
        self._targets.append(_Target())

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._starred = True
        elif symbol in _SYMBOLS:
            self._put(_SYMBOLS[symbol])

    def _put_bytes(self, data: bytes) -> None:
        if self._skip_letters:
            size = min(self._skip_letters, len(data))
            self._skip_letters -= size
            data = data[size:]
        self._pending += data

    def _flush(self) -> None:
        """Decode the bytes since the last word: letters of Asian languages have several."""
        if self._pending:
            try:
                text = self._pending.decode(self._group.code_page, "replace")
            except LookupError:
                text = self._pending.decode("cp1252", "replace")
            self._pending = b""
            self._put(text)

    def _put(self, text: str) -> None:
        if not self._group.skip and not self._group.deleted:
            self._targets[-1].parts.append(text)

    def _word(self, word: str, value: int | None) -> Iterator[RtfEvent]:
        starred, self._starred = self._starred, False
        if word == "u" and value is not None:
            self._put_unicode(value)
        elif word in SKIPPED or (starred and word not in _READ and word not in _SEPARATE):
            self._count(word)
            self._group.skip = True
        elif word in _SEPARATE and not (word in ("title", "author") and self._group.target != "info"):
            self._begin_separate(word)
        elif word == "object":
            self._count(word)
        elif word == "shp":
            self._is_picture = self._is_described = False
        elif word in ("upr", "ud"):  # the same text twice; the second is in Unicode
            self._group.is_twice = self._group.is_twice or not self._group.skip
            self._group.skip = word == "upr" or not self._group.is_twice
        elif word in _ENDS:
            yield from self._end_block(word)
        elif word in _LETTERS:
            self._put(_LETTERS[word])
        else:
            self._set(word, value)

    def _count(self, word: str) -> None:
        if not self._group.skip:
            self.pictures += word in ("pict", "shppict")
            self._is_picture, self._is_described = word in ("pict", "shppict"), False
            self.objects += word == "object"

    def _put_unicode(self, value: int) -> None:
        code = value % 65536
        self._put(chr(code))
        self._skip_letters = self._group.uc

    def _end_block(self, word: str) -> Iterator[RtfEvent]:
        if self._group.skip:
            return
        if len(self._targets) > 1:  # paragraphs of a note or a header
            self._targets[-1].parts.append("\n")
            return
        if word in ("page", "column") and not self._text.strip():
            return
        yield self._end(word)

    def _end(self, word: str) -> RtfEvent:
        target = self._targets[-1]
        paragraph = target.paragraph
        event = RtfEvent(
            word,
            self._text,
            paragraph.label,
            paragraph.style,
            paragraph.outline,
            paragraph.level,
            paragraph.in_table,
            tuple(self._edges) if word == "row" else (),
            self._is_head,
            tuple(self._merged) if word == "row" else (),
        )
        target.parts.clear()
        paragraph.label = ""
        return event

    def _set(self, word: str, value: int | None) -> None:
        """Set a property of the group, else of the paragraph or the row."""
        group = self._group
        if word == "ansicpg" and value:
            self._fonts[-1] = group.code_page = f"cp{value}"
        elif word == "mac":
            self._fonts[-1] = group.code_page = "mac_roman"
        elif word == "uc" and value is not None:
            group.uc = value
        elif word == "deleted":
            group.deleted = value != 0
        elif word == "plain":
            group.deleted = False
            group.code_page = self._fonts.get(-1, group.code_page)
        elif word == "f" and value is not None:
            self._font = value
            group.code_page = self._fonts.get(value, self._fonts.get(-1, group.code_page))
        elif word == "fcharset" and value in _CODE_PAGES and value:
            self._fonts[self._font] = _CODE_PAGES[value]
        else:
            self._set_paragraph(word, value)

    def _set_paragraph(self, word: str, value: int | None) -> None:
        paragraph = self._targets[-1].paragraph
        if word == "pard":
            self._targets[-1].paragraph = _Paragraph(label=paragraph.label)
        elif word == "s" and value is not None:
            paragraph.style = value
        elif word == "outlinelevel" and value is not None:
            paragraph.outline = value
            if self._in_styles():
                self.styles[paragraph.style] = ("", value)
        elif word == "ilvl" and value is not None:
            paragraph.level = value
        elif word == "intbl":
            paragraph.in_table = True
        else:
            self._set_row(word, value)

    def _in_styles(self) -> bool:
        return any(group.target == "stylesheet" for group in self._stack)

    def _set_row(self, word: str, value: int | None) -> None:
        if word == "trowd":
            self._edges, self._merged, self._cell_merge, self._is_head = [], [], "", False
        elif word == "cellx" and value is not None:
            self._edges.append(value)
            self._merged.append(self._cell_merge)
            self._cell_merge = ""
        elif word in ("clmrg", "clvmrg"):
            self._cell_merge = word
        elif word == "trhdr":
            self._is_head = True

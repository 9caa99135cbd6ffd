"""The binary format of Word 97 to 2003: pieces of text, properties of paragraphs, styles, lists and notes."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from nearfield.corpus.extractors.office.numbering import NumberLevel
from nearfield.errors import InputError

#: Places in the file information block: flags, sizes of the parts of the text, and tables by their index.
_FLAGS, _SIZES, _TABLES = 0x0A, 0x4C, 0x9A
_ENCRYPTED, _TABLE_1 = 0x0100, 0x0200
_STYLES, _FOOTNOTE_REFS, _FOOTNOTES, _COMMENT_REFS, _COMMENTS, _RUNS, _PARAGRAPHS, _PIECES = 1, 2, 3, 4, 5, 12, 13, 33
_ENDNOTE_REFS, _ENDNOTES, _LISTS, _LIST_USES = 46, 47, 73, 74
#: Properties ("sprm") of paragraphs, of table rows and of runs.
_IN_TABLE, _ROW_END, _LEVEL, _LIST, _OUTLINE, _ROW, _DELETED = 0x2416, 0x2417, 0x260A, 0x460B, 0x2640, 0xD608, 0x0800
_SIZES_OF = {0: 1, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2, 7: 3}
_FORMS = {0: "decimal", 1: "upperRoman", 2: "lowerRoman", 3: "upperLetter", 4: "lowerLetter", 5: "ordinal"}
_FORMS |= {22: "decimalZero", 23: "bullet", 255: "none"}
#: The number of the built-in style for titles; those of headings are 1 to 9.
_TITLE = 62


@dataclass
class ParagraphProperties:
    """Properties of a paragraph: its style, outline level, list, and its place in a table."""

    style: int = 0
    outline: int | None = None
    list_use: int = 0
    level: int = 0
    in_table: bool = False
    ends_row: bool = False
    #: Right edges of the cells of a row, and those that continue the cell on their left or above.
    edges: tuple[int, ...] = ()
    merged: tuple[str, ...] = ()


class WordRecords:
    """Reads the streams of a file.

    Raises:
        InputError: it is encrypted, damaged, or of Word 6 or before.
    """

    def __init__(self, main: bytes, tables: tuple[bytes, bytes], name: str) -> None:
        self._main = main
        if len(main) < 0x200 or main[:2] != b"\xec\xa5":
            raise InputError(f"{name}: of Word 95 or before, which is not read. Save it as .docx.")
        flags = self._short(_FLAGS)
        if flags & _ENCRYPTED:
            raise InputError(f"{name}: encrypted with a password. Save it without one.")
        self._table = tables[bool(flags & _TABLE_1)]
        sizes = struct.unpack_from("<8i", main, _SIZES)
        #: Lengths of the text, footnotes, headers, macros, comments, endnotes, and boxes.
        self.sizes = tuple(max(size, 0) for size in sizes)
        self._cps: list[int] = []
        self._pieces: list[tuple[int, bool]] = []
        self._read_pieces(name)
        self._ends, self._papx = self._pages(_PARAGRAPHS, 13)
        self.levels = self._read_styles()

    def _short(self, at: int) -> int:
        return int.from_bytes(self._main[at : at + 2], "little")

    def _part(self, index: int) -> bytes:
        start, size = struct.unpack_from("<II", self._main, _TABLES + 8 * index)
        return self._table[start : start + size]

    def _read_pieces(self, name: str) -> None:
        data = self._part(_PIECES)
        at = 0
        while at < len(data) and data[at] == 1:
            at += 3 + int.from_bytes(data[at + 1 : at + 3], "little")
        if at >= len(data) or data[at] != 2:
            raise InputError(f"{name}: damaged: the table of its text is missing. Save it as .docx.")
        plc = data[at + 5 :]
        count = (len(plc) - 4) // 12
        self._cps = list(struct.unpack_from(f"<{count + 1}I", plc))
        for number in range(count):
            (place,) = struct.unpack_from("<I", plc, 4 * (count + 1) + 8 * number + 2)
            compressed = bool(place & 0x40000000)
            place &= 0x3FFFFFFF
            self._pieces.append((place // 2 if compressed else place, compressed))

    def text(self) -> str:
        """Return the whole text: the document, then footnotes, headers, comments, endnotes and boxes."""
        parts = []
        for number, (place, compressed) in enumerate(self._pieces):
            size = self._cps[number + 1] - self._cps[number]
            if compressed:
                parts.append(self._main[place : place + size].decode("cp1252", "replace").ljust(size))
            else:
                units = self._main[place : place + 2 * size].ljust(2 * size, b" ")
                # One letter for each unit, so that places stay places; pairs are joined where a paragraph is read.
                parts.append("".join(map(chr, struct.unpack(f"<{size}H", units))))
        return "".join(parts)

    def _offset(self, cp: int) -> int:
        """Return the place in the file of a character."""
        number = min(max(bisect_right(self._cps, cp) - 1, 0), len(self._pieces) - 1)
        place, compressed = self._pieces[number]
        return place + (cp - self._cps[number]) * (1 if compressed else 2)

    def _pages(self, index: int, size: int) -> tuple[list[int], list[bytes]]:
        """Return the ends of all runs of properties in the file, and their properties."""
        plc = self._part(index)
        count = (len(plc) - 4) // 8
        ends: list[tuple[int, bytes]] = []
        for number in range(count):
            (page,) = struct.unpack_from("<I", plc, 4 * (count + 1) + 4 * number)
            start = (page & 0x3FFFFF) * 512
            data = self._main[start : start + 512]
            if len(data) == 512:
                ends += self._page(data, size)
        ends.sort(key=lambda item: item[0])
        return [end for end, _ in ends], [properties for _, properties in ends]

    def _page(self, data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
        count = data[511]
        if 4 * (count + 1) + size * count > 511:
            return
        places = struct.unpack_from(f"<{count + 1}I", data)
        for number in range(count):
            offset = 2 * data[4 * (count + 1) + size * number]
            if not offset:
                yield places[number + 1], b""
            elif size == 1:
                yield places[number + 1], data[offset + 1 : offset + 1 + data[offset]]
            elif data[offset]:
                yield places[number + 1], data[offset + 1 : offset + 2 * data[offset]]
            else:
                yield places[number + 1], data[offset + 2 : offset + 2 + 2 * data[min(offset + 1, 511)]]

    def properties(self, cp: int) -> ParagraphProperties:
        """Return the properties of the paragraph that ends with a character."""
        at = bisect_right(self._ends, self._offset(cp))
        data = self._papx[at] if at < len(self._papx) else b""
        result = ParagraphProperties(int.from_bytes(data[:2], "little"))
        for code, value in _sprms(data[2:]):
            number = int.from_bytes(value[:2], "little")
            if code == _IN_TABLE:
                result.in_table = bool(number)
            elif code == _ROW_END:
                result.ends_row = bool(number)
            elif code == _LEVEL:
                result.level = min(number, 8)
            elif code == _LIST:
                result.list_use = number
            elif code == _OUTLINE:
                result.outline = number
            elif code == _ROW:
                result.edges, result.merged = _row(value)
        return result

    def deleted(self) -> list[tuple[int, int]]:
        """Return the places in the file of text that was deleted with changes recorded."""
        ends, properties = self._pages(_RUNS, 1)
        ranges, start = [], 0
        for end, data in zip(ends, properties, strict=True):
            if any(code == _DELETED and value[:1] == b"\1" for code, value in _sprms(data)):
                ranges.append((start, end))
            start = end
        return ranges

    def without_deleted(self, text: str) -> str:
        """Return the text with a null character for each deleted one."""
        letters = list(text)
        for start, end in self.deleted():
            for number, (place, compressed) in enumerate(self._pieces):
                width = 1 if compressed else 2
                first, last = self._cps[number], self._cps[number + 1]
                low = max(first + (start - place) // width, first)
                high = min(first + (end - place) // width, last, len(letters))
                for cp in range(low, high):
                    letters[cp] = "\0" if letters[cp] not in "\r\x07" else letters[cp]
        return "".join(letters)

    def _read_styles(self) -> dict[int, int]:
        """Return the levels of headings by the number of their style."""
        data = self._part(_STYLES)
        if len(data) < 6:
            return {}
        size, count, base = struct.unpack_from("<HHH", data)
        levels, at = {}, 2 + size
        for number in range(count):
            if at + 2 > len(data):
                break
            length = int.from_bytes(data[at : at + 2], "little")
            if length >= base:
                style = int.from_bytes(data[at + 2 : at + 4], "little") & 0x0FFF
                if 1 <= style <= 9:
                    levels[number] = style
                elif style == _TITLE:
                    levels[number] = 1
            at += 2 + length + length % 2
        return levels

    def notes(self, kind: str) -> list[tuple[int, int, int]]:
        """Return notes of a kind: where each is referred to, and its start and end among the notes of its kind."""
        references, texts, size = {
            "footnote": (_FOOTNOTE_REFS, _FOOTNOTES, 2),
            "endnote": (_ENDNOTE_REFS, _ENDNOTES, 2),
            "comment": (_COMMENT_REFS, _COMMENTS, 30),
        }[kind]
        plc, ends = self._part(references), self._part(texts)
        count = max((len(plc) - 4) // (4 + size), 0)
        if not count or len(ends) < 4 * (count + 1):
            return []
        places = struct.unpack_from(f"<{count}I", plc)
        limits = struct.unpack_from(f"<{count + 1}I", ends)
        return [(places[at], limits[at], limits[at + 1]) for at in range(count)]

    def lists(self) -> Iterator[tuple[int, int, dict[int, NumberLevel]]]:
        """Yield the uses of lists: number, list, and levels."""
        data = self._part(_LISTS)
        (start,) = struct.unpack_from("<I", self._main, _TABLES + 8 * _LISTS)
        if len(data) < 2:
            return
        count = int.from_bytes(data[:2], "little")
        # The levels come after the table, which does not count them in its size.
        rest, at = self._table[start:], 2 + 28 * count
        levels: dict[int, dict[int, NumberLevel]] = {}
        for number in range(count):
            (identity,) = struct.unpack_from("<i", data, 2 + 28 * number)
            levels[identity] = {}
            for level in range(1 if data[2 + 28 * number + 26] & 1 else 9):
                levels[identity][level], at = _level(rest, at)
        uses = self._part(_LIST_USES)
        for number in range(int.from_bytes(uses[:4], "little") if len(uses) >= 4 else 0):
            if 4 + 16 * (number + 1) <= len(uses):
                (identity,) = struct.unpack_from("<i", uses, 4 + 16 * number)
                yield number + 1, identity, levels.get(identity, {})


def _level(data: bytes, at: int) -> tuple[NumberLevel, int]:
    start, form = struct.unpack_from("<IB", data, at)
    runs, paragraphs = data[at + 24], data[at + 25]
    at += 28 + runs + paragraphs
    size = int.from_bytes(data[at : at + 2], "little")
    letters = data[at + 2 : at + 2 + 2 * size].decode("utf-16-le", "replace")
    text = "".join(f"%{ord(letter) + 1}" if ord(letter) < 9 else letter for letter in letters)
    return NumberLevel(_FORMS.get(form, "decimal"), text, start), at + 2 + 2 * size


def _sprms(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield properties with their values."""
    at = 0
    while at + 2 < len(data):
        code = int.from_bytes(data[at : at + 2], "little")
        at += 2
        size = _SIZES_OF.get(code >> 13, 0)
        if code >> 13 == 6:
            wide = code == _ROW
            size = int.from_bytes(data[at : at + 2], "little") - 1 if wide else data[at]
            at += 2 if wide else 1
        if size < 0:
            return
        yield code, data[at : at + size]
        at += size


def _row(value: bytes) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the right edges of a row's cells, and how they are merged."""
    count = value[0] if value else 0
    if len(value) < 1 + 2 * (count + 1):
        return (), ()
    edges = struct.unpack_from(f"<{count + 1}h", value, 1)[1:]
    merged = []
    for number in range(count):
        flags = int.from_bytes(value[1 + 2 * (count + 1) + 20 * number :][:2], "little")
        vertical = flags & 0x20 and not flags & 0x40
        merged.append("clmrg" if flags & 2 else "clvmrg" if vertical else "")
    return edges, tuple(merged)

"""Extractor for PPT (PowerPoint 97 to 2003): each slide is a page with its title as heading, texts and notes."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

#: Types of records.
_SLIDE_ATOM, _PERSIST, _SLIDE_LIST = 1007, 1011, 4080
_OUTLINE_REFERENCE, _TEXT_HEADER, _CHARS, _BYTES = 3998, 3999, 4000, 4008
_EDIT, _DIRECTORY, _TEXT_BOX = 4085, 6002, 0xF00D
_GROUP, _SHAPE, _SHAPE_ATOM, _OPTIONS, _CHILD_ANCHOR = 0xF003, 0xF004, 0xF00A, 0xF00B, 0xF00F
#: The list of objects of other programs, the kinds of its entries (embedded, linked), and what they consist of.
_OBJECT_LIST, _OBJECT_KINDS, _OBJECT_ATOM, _STRING = 1033, (4044, 4046), 4035, 4026
#: What belongs to a shape but its looks, and the reference to its object.
_CLIENT_DATA, _OBJECT_REFERENCE = 0xF011, 3009
#: Numbers of the programs Graph and Excel (charts), and names of programs that draw charts.
_CHART_PROGRAMS, _CHART = (4, 14), re.compile("chart|graph", re.IGNORECASE)
#: A record: version, instance, type, start and end.
_Record: TypeAlias = tuple[int, int, int, int, int]
#: The type of a shape that is a picture, and the option with its description.
_PICTURE_FRAME, _DESCRIPTION = 75, 0x0381
#: Kinds of texts; that of a table is our own.
_TITLES, _NOTES_TEXT, _TABLE = (0, 6), 2, -1
_MAX_DEPTH, _MAX_EDITS = 40, 1000


@dataclass
class _TextRun:
    kind: int
    text: str = ""


@dataclass
class _SlideEntry:
    """A slide in the list of slides: where it is, its number among notes, and the texts of its placeholders."""

    place: int
    identity: int
    runs: list[_TextRun] = field(default_factory=list)


@dataclass(frozen=True)
class _Frame:
    """A picture, or an object of another program, of which the presentation has a picture only."""

    description: str
    object: str = ""


class _FrameCount:
    """The slides with frames whose content is not read."""

    def __init__(self) -> None:
        self._pictures: list[int] = []
        self._objects: dict[str, list[int]] = {}

    def add(self, frame: _Frame, number: int) -> None:
        """Add a frame of a slide."""
        if frame.object:
            self._objects.setdefault(frame.object, []).append(number)
        elif not frame.description:
            self._pictures.append(number)

    def losses(self) -> Iterator[Loss]:
        """Yield what is not read."""
        for name, slides in sorted(self._objects.items()):
            yield Loss(_counted(slides, name), pages=tuple(sorted(set(slides))), advice="Save it as .pptx.")
        if self._pictures:
            reason = f"{_counted(self._pictures, 'picture')} without a description"
            yield Loss(reason, pages=tuple(sorted(set(self._pictures))))


def _counted(slides: Sequence[int], name: str) -> str:
    return f"{len(slides)} {name}{'s' * (len(slides) > 1)}"


class PptExtractor(Extractor):
    """Presentations of PowerPoint 97 to 2003."""

    suffixes: Mapping[str, str] = {
        ".ppt": "application/vnd.ms-powerpoint",
        ".pps": "application/vnd.ms-powerpoint",
        ".pot": "application/vnd.ms-powerpoint",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all slides with their notes."""
        import olefile

        file = olefile.OleFileIO(io.BytesIO(data))
        if not file.exists("PowerPoint Document") or not file.exists("Current User"):
            raise InputError(f"{name}: damaged, or of PowerPoint 95 or before. Save it as .pptx.")
        if file.exists("EncryptedSummary"):
            raise InputError(f"{name}: encrypted with a password. Save it without one.")
        reader = _SlideReader(file.openstream("PowerPoint Document").read(), file.openstream("Current User").read())
        builder = DocumentBuilder(page_unit="slide")
        words = 0
        frames = _FrameCount()
        notes = {entry.identity: entry for entry in reader.entries(2)}
        for number, entry in enumerate(reader.entries(0), 1):
            words += _put_slide(builder, reader, entry, notes, number)
            for frame in reader.frames(entry):
                builder.add(f"Picture: {frame.description}" if frame.description else "", page=number)
                frames.add(frame, number)
        builder.visible_words = words
        builder.losses += frames.losses()
        facts = file.get_metadata()
        title, author = (_fact(value, facts.codepage) for value in (facts.title, facts.author))
        title = "" if title == "PowerPoint Presentation" else title
        return builder.document("markdown", title or builder.first_heading(), {"author": author} if author else {})


def _fact(value: Any, code_page: int | None) -> str:
    encoding = "utf-8" if code_page in (65001, -535) else f"cp{code_page}" if code_page else "cp1252"
    try:
        return bytes(value or b"").decode(encoding, "replace").strip("\0 ")
    except LookupError:
        return bytes(value or b"").decode("cp1252", "replace").strip("\0 ")


def _put_slide(
    builder: DocumentBuilder, reader: _SlideReader, entry: _SlideEntry, notes: Mapping[int, _SlideEntry], number: int
) -> int:
    """Add a slide and its notes; return the number of their words."""
    runs = list(reader.runs(entry))
    title = next((run for run in runs if run.kind in _TITLES and run.text.strip()), None)
    if title is not None:
        builder.heading(title.text, 1, page=number)
    for run in runs:
        lines = [" ".join(line.split()) for line in run.text.split("\r")]
        lines = [line for line in lines if line]
        if run is title or not lines:
            continue
        if run.kind == _TABLE:
            builder.add(run.text, "table", page=number)
        elif len(lines) == 1:
            builder.add(lines[0], page=number)
        else:
            builder.add("\n".join(f"- {line}" for line in lines), "list", page=number)
    words = count_words("\n".join(run.text.replace("---", "") for run in runs))
    note = notes.get(reader.notes_of(entry))
    for run in reader.runs(note) if note else ():
        if run.kind == _NOTES_TEXT:
            builder.add(run.text.replace("\r", "\n"), page=number)
            words += count_words(run.text)
    return words


class _SlideReader:
    """Reads the records of a presentation, of its last edit."""

    def __init__(self, data: bytes, user: bytes) -> None:
        self._data = data
        self._places: dict[int, int] = {}
        (edit,) = struct.unpack_from("<I", user, 16)
        document = 0
        for _ in range(_MAX_EDITS):
            if not edit or edit + 8 > len(data):
                break
            older, directory, root = struct.unpack_from("<III", data, edit + 16)
            document = document or root
            self._read_directory(directory)
            edit = older
        place = self._places.get(document, 0)
        self._document = list(self._records(*self._body(place)))

    def _read_directory(self, place: int) -> None:
        start, end = self._body(place)
        while start + 4 <= end:
            (entry,) = struct.unpack_from("<I", self._data, start)
            first, count = entry & 0xFFFFF, entry >> 20
            for number in range(count):
                if start + 8 + 4 * number <= end:
                    (target,) = struct.unpack_from("<I", self._data, start + 4 + 4 * number)
                    self._places.setdefault(first + number, target)
            start += 4 + 4 * count

    def _body(self, place: int) -> tuple[int, int]:
        if place + 8 > len(self._data):
            return 0, 0
        (size,) = struct.unpack_from("<I", self._data, place + 4)
        return place + 8, min(place + 8 + size, len(self._data))

    def _records(self, start: int, end: int) -> Iterator[_Record]:
        """Yield the records between two places: version, instance, type, start and end of each."""
        while start + 8 <= end:
            head, kind, size = struct.unpack_from("<HHI", self._data, start)
            start += 8
            yield head & 15, head >> 4, kind, start, min(start + size, end)
            start += size

    def entries(self, instance: int) -> list[_SlideEntry]:
        """Return the slides (0) or notes (2) in order."""
        entries: list[_SlideEntry] = []
        for _, number, kind, start, end in self._document:
            if kind == _SLIDE_LIST and number == instance:
                for record in self._records(start, end):
                    if record[2] == _PERSIST:
                        place, _, _, identity = struct.unpack_from("<IIII", self._data, record[3])
                        entries.append(_SlideEntry(self._places.get(place, 0), identity))
                    elif entries:
                        self._add(entries[-1].runs, record)
        return entries

    def _add(self, runs: list[_TextRun], record: _Record) -> None:
        _, _, kind, start, end = record
        if kind == _TEXT_HEADER:
            runs.append(_TextRun(int.from_bytes(self._data[start : start + 4], "little")))
        elif kind in (_CHARS, _BYTES):
            encoding = "utf-16-le" if kind == _CHARS else "cp1252"
            text = self._data[start:end].decode(encoding, "replace").replace("\x0b", "\n")
            if runs and not runs[-1].text:
                runs[-1].text = text
            else:
                runs.append(_TextRun(4, text))

    def runs(self, entry: _SlideEntry) -> Iterator[_TextRun]:
        """Yield the texts of a slide in the order of its shapes."""
        used: set[int] = set()
        for run in self._shapes(*self._body(entry.place), 0, entry.runs, used):
            if run.text.strip("\r\n *"):
                yield run
        yield from (run for at, run in enumerate(entry.runs) if at not in used and run.text.strip())

    def _shapes(self, start: int, end: int, depth: int, outline: list[_TextRun], used: set[int]) -> Iterator[_TextRun]:
        for version, _, kind, first, last in self._records(start, end):
            if kind == _TEXT_BOX:
                for record in self._records(first, last):
                    if record[2] == _OUTLINE_REFERENCE:
                        used.add(int.from_bytes(self._data[record[3] : record[3] + 4], "little"))
                yield from self._box_runs(first, last, outline)
                continue
            table = self._table(first, last, outline) if kind == _GROUP else ""
            if table:
                yield _TextRun(_TABLE, table)
            elif version == 15 and depth < _MAX_DEPTH:
                yield from self._shapes(first, last, depth + 1, outline, used)

    def _box_runs(self, start: int, end: int, outline: list[_TextRun]) -> list[_TextRun]:
        runs: list[_TextRun] = []
        for record in self._records(start, end):
            if record[2] == _OUTLINE_REFERENCE:
                at = int.from_bytes(self._data[record[3] : record[3] + 4], "little")
                runs += outline[at : at + 1]
            else:
                self._add(runs, record)
        return runs

    def _table(self, start: int, end: int, outline: list[_TextRun]) -> str:
        """Return a group of shapes as a table if they are in rows and columns; empty if they are not."""
        cells: dict[tuple[int, int], str] = {}
        shapes = [record for record in self._records(start, end) if record[2] == _SHAPE]
        for _, _, _, first, last in shapes:
            parts = {record[2]: record for record in self._records(first, last)}
            anchor = parts.get(_CHILD_ANCHOR)
            if anchor is not None and _TEXT_BOX in parts and anchor[4] - anchor[3] >= 16:
                left, top = struct.unpack_from("<ii", self._data, anchor[3])
                runs = self._box_runs(*parts[_TEXT_BOX][3:5], outline)
                cells[top, left] = " ".join(run.text for run in runs)
        rows, columns = sorted({top for top, _ in cells}), sorted({left for _, left in cells})
        # Merged and empty cells leave places free; shapes that are no table leave most of them free.
        if len(rows) < 2 or len(columns) < 2 or 2 * len(cells) < len(rows) * len(columns):
            return ""
        return markdown_table([cells.get((top, left), "") for left in columns] for top in rows)

    def frames(self, entry: _SlideEntry) -> Iterator[_Frame]:
        """Yield a slide's pictures and objects of other programs."""
        stack = [self._body(entry.place)]
        while stack:
            for version, _, kind, first, last in self._records(*stack.pop()):
                if kind == _SHAPE:
                    yield from self._frame(list(self._records(first, last)))
                elif version == 15:
                    stack.append((first, last))

    def _frame(self, parts: Sequence[_Record]) -> Iterator[_Frame]:
        number = next((self._object_number(part) for part in parts if part[2] == _CLIENT_DATA), 0)
        is_picture = any(part[2] == _SHAPE_ATOM and part[1] == _PICTURE_FRAME for part in parts)
        if not is_picture and number not in self._objects:
            return
        options = (shape_description(part[1], self._data[part[3] : part[4]]) for part in parts if part[2] == _OPTIONS)
        yield _Frame(next(filter(None, options), ""), self._objects.get(number, ""))

    def _object_number(self, client_data: _Record) -> int:
        """Return the number of the object that a shape shows; 0 without one."""
        for _, _, kind, first, last in self._records(*client_data[3:5]):
            if kind == _OBJECT_REFERENCE and last - first >= 4:
                return int.from_bytes(self._data[first : first + 4], "little")
        return 0

    @cached_property
    def _objects(self) -> dict[int, str]:
        """The kinds of the objects of other programs by their numbers."""
        lists = [record for record in self._document if record[2] == _OBJECT_LIST]
        containers = (item for record in lists for item in self._records(*record[3:5]) if item[2] in _OBJECT_KINDS)
        return dict(item for container in containers for item in self._object(container))

    def _object(self, container: _Record) -> Iterator[tuple[int, str]]:
        parts = list(self._records(*container[3:5]))
        names = (self._data[part[3] : part[4]].decode("utf-16-le", "replace") for part in parts if part[2] == _STRING)
        is_chart = _CHART.search(" ".join(names)) is not None
        for _, _, kind, first, last in parts:
            if kind == _OBJECT_ATOM and last - first >= 16:
                _, _, number, program = struct.unpack_from("<IIII", self._data, first)
                yield number, "chart" if is_chart or program in _CHART_PROGRAMS else "embedded object"

    def notes_of(self, entry: _SlideEntry) -> int:
        """Return the number of a slide's notes; 0 without them."""
        for _, _, kind, start, end in self._records(*self._body(entry.place)):
            if kind == _SLIDE_ATOM and end - start >= 20:
                return int(struct.unpack_from("<I", self._data, start + 16)[0])
        return 0


def shape_description(count: int, options: bytes) -> str:
    """Return the description among the options of a shape: long values come after all numbers."""
    place = 6 * count
    for number in range(min(count, len(options) // 6)):
        name, value = struct.unpack_from("<HI", options, 6 * number)
        if not name & 0x8000:
            continue
        if name & 0x3FFF == _DESCRIPTION:
            text = options[place : place + value].decode("utf-16-le", "replace")
            return " ".join(text.strip("\0").split())
        place += value
    return ""

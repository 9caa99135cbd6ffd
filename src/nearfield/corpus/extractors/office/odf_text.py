"""Text of OpenDocument files: paragraphs, lists with their numbers, tables, notes, comments, boxes and charts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.embedded.picture_texts import PictureTexts
from nearfield.corpus.extractors.office.mathml import latex
from nearfield.corpus.extractors.office.odf_package import (
    ListCounter,
    OdfPackage,
    count_odf_words,
    read_list_styles,
)
from nearfield.corpus.extractors.office.package import Element, attribute, descendants, local_name
from nearfield.corpus.extractors.office.word_tables import Cell, table_parts

_SPACES = re.compile(r"[ \t\r\n]+")
#: Repeated cells of a row that are read; a row may say that it has a thousand empty ones.
_MAX_REPEATED = 200
_SHAPES = frozenset({
    "frame", "custom-shape", "rect", "ellipse", "circle", "line", "polyline", "polygon", "path", "connector", "caption",
    "g", "control", "regular-polygon",
})  # fmt: skip
_LEFT_OUT = frozenset({
    "tracked-changes", "forms", "sequence-decls", "variable-decls", "user-field-decls", "table-of-content-source",
    "annotation-end", "desc", "title", "enhanced-geometry", "note-citation", "image", "event-listeners",
    "soft-page-break",
})  # fmt: skip


class OdfTextWriter:
    """Adds the blocks of text documents, and of the boxes and pages of presentations, to a document."""

    def __init__(self, package: OdfPackage, builder: DocumentBuilder, pictures: PictureTexts) -> None:
        self.builder = builder
        self._picture_texts = pictures
        self.page: int | None = None
        #: Words of charts and other objects in parts of the package, and of pictures.
        self.words = 0
        self.title = ""
        self._package = package
        self._list_styles = read_list_styles(package)
        self._outline = ListCounter(self._list_styles.get("", {}))
        self._lists: dict[str, ListCounter] = {}
        self._last: dict[str, ListCounter] = {}
        self._styles = {attribute(style, "name"): style for style in package.elements("style")}
        self._lines: list[str] = []
        self._extras: list[Element] = []
        self._notes = {"footnote": 0, "endnote": 0}
        self._pictures: list[int] = []
        self._objects: list[int] = []

    def put_all(self, parent: Element) -> None:
        """Add all blocks of an element."""
        for child in parent:
            self._put(child)
        self._end_list()
        self._put_extras()

    def add_losses(self) -> None:
        """State the pictures without a description, and what was not read since it is of another kind or damaged."""
        self.builder.losses += [*self._package.losses(), *self._picture_texts.losses()]
        for places, one, many in (
            (self._pictures, "1 picture without a description", "pictures without a description"),
            (self._objects, "1 embedded object", "embedded objects"),
        ):
            if places:
                pages = tuple(sorted({page for page in places if page}))
                self.builder.losses.append(Loss(one if len(places) == 1 else f"{len(places)} {many}", pages=pages))

    def _put(self, element: Element) -> None:
        name = local_name(element)
        if name in ("list", "numbered-paragraph"):
            self._put_list(element, 0, "", None)
            return
        self._end_list()
        if name == "h":
            level = attribute(element, "outline-level")
            self._put_heading(element, int(level) if level.isdigit() else 1, "")
        elif name == "p":
            text = self.text(element)
            if self._is_title(element) and text.strip():
                self.title = self.title or text
                self.builder.heading(text, 1, page=self.page)
            else:
                self.builder.add(text.strip(), page=self.page)
        elif name == "table":
            self._put_table(element)
        elif name in _SHAPES or name == "annotation":
            self._extras.append(element)
        elif name and name not in _LEFT_OUT:
            self.put_all(element)
        self._put_extras()

    def _is_title(self, element: Element) -> bool:
        style: str = attribute(element, "style-name")
        for _ in range(20):  # styles are based on others, in a circle if the file is damaged
            if style == "Title":
                return True
            item = self._styles.get(style)
            if item is None:
                return False
            style = attribute(item, "parent-style-name")
        return False

    def _put_heading(self, element: Element, level: int, label: str) -> None:
        if not label and attribute(element, "is-list-header") != "true" and level - 1 in self._outline.levels:
            label = self._outline.next_label(level - 1, attribute(element, "start-value"))
        label = "" if label == "-" else label
        text = self.text(element)
        if text.strip():
            self.builder.heading(f"{label} {text}", level, page=self.page)

    def _put_list(self, element: Element, level: int, style: str, counter: ListCounter | None) -> None:
        style = attribute(element, "style-name") or style
        if counter is None:
            counter = self._counter(element, style)
        for item in element:
            name = local_name(item)
            if name not in ("list-item", "list-header"):
                continue
            first = name == "list-item"
            for child in item:
                kind = local_name(child)
                if kind == "list":
                    self._put_list(child, level + 1, style, counter)
                elif kind in ("p", "h"):
                    label = counter.next_label(level, attribute(item, "start-value")) if first else ""
                    first = False
                    self._put_item(child, level, label)
                else:
                    self._put(child)

    def _put_item(self, element: Element, level: int, label: str) -> None:
        if local_name(element) == "h":
            self._end_list()
            outline = attribute(element, "outline-level")
            self._put_heading(element, int(outline) if outline.isdigit() else level + 1, label or "-")
            self._put_extras()
            return
        text = " ".join(self.text(element).split())
        if text:
            self._lines.append("  " * min(level, 8) + (f"{label} {text}" if label else f"  {text}"))

    def _counter(self, element: Element, style: str) -> ListCounter:
        """Return the counter of a list: that of an earlier one if the list continues it."""
        earlier = self._lists.get(attribute(element, "continue-list"))
        if earlier is None and attribute(element, "continue-numbering") == "true":
            earlier = self._last.get(style)
        counter = earlier or ListCounter(self._list_styles.get(style, {}))
        identity = attribute(element, "id")
        if identity:
            self._lists[identity] = counter
        self._last[style] = counter
        return counter

    def _end_list(self) -> None:
        if self._lines:
            self.builder.add("\n".join(self._lines), "list", page=self.page)
            self._lines = []
            self._put_extras()

    def _put_table(self, table: Element) -> None:
        titles, rows = table_parts(self._rows(table))
        for text in titles:
            self.builder.add(text, page=self.page)
        self.builder.add(markdown_table(rows), "table", page=self.page)

    def _rows(self, table: Element) -> Iterator[list[Cell]]:
        above: dict[int, int] = {}
        for row, is_head in table_rows(table):
            cells: list[Cell] = []
            place = 0
            for item in row:
                name = local_name(item)
                if name not in ("table-cell", "covered-table-cell"):
                    continue
                repeated = min(_number(item, "number-columns-repeated"), _MAX_REPEATED)
                for _ in range(repeated):
                    if name == "covered-table-cell":
                        # One under a cell of several rows; those beside a cell are part of its span.
                        if above.get(place, 0) > 0:
                            cells.append(Cell("", continues=True, is_head=is_head))
                            above[place] -= 1
                        place += 1
                        continue
                    span, rows = _number(item, "number-columns-spanned"), _number(item, "number-rows-spanned")
                    cells.append(Cell(self._cell_text(item), span, is_head=is_head))
                    if rows > 1:
                        above |= dict.fromkeys(range(place, place + span), rows - 1)
                    place += 1
            yield cells

    def _cell_text(self, cell: Element) -> str:
        lines = []
        for child in cell:
            name = local_name(child)
            if name in ("p", "h"):
                lines.append(self.text(child))
            elif name == "table":
                lines.append("; ".join(", ".join(filter(None, (c.text for c in row))) for row in self._rows(child)))
            elif name == "list":
                lines += [self.text(item) for item in descendants(child, "p", "h")]
        return "\n".join(filter(None, lines))

    def text(self, element: Element) -> str:
        """Return the text of a paragraph; notes, comments and shapes in it are added after its block."""
        return "".join(self._pieces(element)).strip(" ")

    def _pieces(self, element: Element) -> Iterator[str]:
        yield _SPACES.sub(" ", element.text or "")
        for child in element:
            name = local_name(child)
            if name == "s":
                yield " " * min(_number(child, "c"), 100)
            elif name == "tab":
                yield "\t"
            elif name == "line-break":
                yield "\n"
            elif name in ("note", "annotation") or name in _SHAPES:
                self._extras.append(child)
            elif name == "ruby-text":  # the reading of the text before it
                reading = "".join(self._pieces(child)).strip()
                yield f"({reading})" if reading else ""
            elif name and name not in _LEFT_OUT:
                yield from self._pieces(child)
            yield _SPACES.sub(" ", child.tail or "")

    def _put_extras(self) -> None:
        extras, self._extras = self._extras, []
        for extra in extras:
            if local_name(extra) == "note":
                self._put_note(extra)
            elif local_name(extra) == "annotation":
                self._put_comment(extra)
            else:
                self.put_shape(extra)

    def _put_note(self, note: Element) -> None:
        kind = attribute(note, "note-class") or "footnote"
        self._notes[kind] = self._notes.get(kind, 0) + 1
        text = " ".join(self.text(item) for item in descendants(note, "p", "h")).strip()
        if text:
            self.builder.add(f"{kind.capitalize()} {self._notes[kind]}: {text}", page=self.page)

    def _put_comment(self, comment: Element) -> None:
        author = next((" ".join((item.text or "").split()) for item in descendants(comment, "creator")), "")
        text = " ".join(" ".join(self.text(item).split()) for item in descendants(comment, "p")).strip()
        if text:
            note = f"Comment by {author}: {text}" if author else f"Comment: {text}"
            self.builder.add(note, "quote", page=self.page, markup="> ")

    def put_shape(self, shape: Element) -> None:
        """Add the contents of a frame or a shape: texts, a table, a chart, a formula, or a picture's description."""
        names = [local_name(child) for child in shape]
        if local_name(shape) == "control":
            self.builder.add(self._package.control_text(attribute(shape, "control")), page=self.page)
        elif local_name(shape) == "g":
            for child in shape:
                if local_name(child) in _SHAPES:
                    self.put_shape(child)
        elif "object" in names or "object-ole" in names:
            self._put_object(shape)
        elif "text-box" in names:
            self.put_all(next(child for child in shape if local_name(child) == "text-box"))
        else:
            self.put_all(shape)
        described = [
            " ".join(child.text.split()) for child in shape if local_name(child) in ("title", "desc") and child.text
        ]
        if described:
            self.builder.add(f"Picture: {'. '.join(dict.fromkeys(described))}", page=self.page)
        if "image" in names and not {"object", "object-ole", "text-box"} & set(names):
            is_read = self._put_picture_text(next(child for child in shape if local_name(child) == "image"))
            if not described and not is_read:
                self._pictures.append(self.page or 0)

    def _put_picture_text(self, image: Element) -> bool:
        """Add the text of a picture; return whether it has any."""
        name, data = self._package.picture(image)
        before = self._picture_texts.words
        is_read = self._picture_texts.put(self.builder, data, name, self.page)
        self.words += self._picture_texts.words - before
        return is_read

    def _put_object(self, frame: Element) -> None:
        root = self._package.object_tree(frame)
        if root is None:
            self._objects.append(self.page or 0)
            return
        if local_name(root) == "math":
            formula = latex(root)
            self.builder.add(f"${formula}$" if formula else "", page=self.page)
            return
        self.words += count_odf_words([root])
        chart = next(descendants(root, "chart"), None)
        if chart is None:
            self.put_all(next(descendants(root, "body"), root))
            return
        for title in descendants(chart, "title", "subtitle"):
            self.builder.add(" ".join(self.text(item) for item in descendants(title, "p")), page=self.page)
        for table in descendants(chart, "table"):
            self.builder.add(markdown_table(row for row in _plain_rows(table)), "table", page=self.page)


def table_rows(table: Element) -> Iterator[tuple[Element, bool]]:
    """Yield the rows of a table, and whether they are marked as its head."""
    stack = [(child, False) for child in reversed(table)]
    while stack:
        element, is_head = stack.pop()
        name = local_name(element)
        if name == "table-row":
            yield element, is_head
        elif name in ("table-header-rows", "table-rows", "table-row-group"):
            stack.extend((child, is_head or name == "table-header-rows") for child in reversed(element))


def _plain_rows(table: Element) -> Iterator[list[str]]:
    for row, _ in table_rows(table):
        yield [
            " ".join("".join(cell.itertext()).split()) or attribute(cell, "value")
            for cell in row
            if local_name(cell) in ("table-cell", "covered-table-cell")
        ]


def _number(element: Element, name: str) -> int:
    value = attribute(element, name)
    return int(value) if value.isdigit() and int(value) > 0 else 1

"""Extractor for PPTX (PowerPoint): each slide is a page with its title as heading, texts, tables, charts and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.office.charts import paragraph_texts
from nearfield.corpus.extractors.office.drawings import DrawingTexts, add_losses
from nearfield.corpus.extractors.office.equations import latex
from nearfield.corpus.extractors.office.numbering import written
from nearfield.corpus.extractors.office.package import (
    Element,
    OfficePackage,
    attribute,
    count_visible_words,
    descendants,
    is_on,
    local_name,
)
from nearfield.corpus.extractors.office.runs import Extra, picture_link
from nearfield.corpus.extractors.office.word_tables import Cell, table_parts
from nearfield.corpus.word_count import count_words

#: Depth of nested groups that are read.
_MAX_DEPTH = 50
#: Damaged slides that a loss names.
_MAX_NAMED = 10
_TITLES = ("title", "ctrTitle")
#: The title that PowerPoint gives to files without one.
_NO_TITLE = "PowerPoint Presentation"
_FORMS = {"arabic": "decimal", "alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman"}
_FORMS |= {"romanUc": "upperRoman"}


class PptxExtractor(Extractor):
    """Presentations."""

    uses_ocr = True

    suffixes: Mapping[str, str] = {
        ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".pptm": "application/vnd.ms-powerpoint.presentation.macroenabled.12",
        ".ppsx": "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
        ".potx": "application/vnd.openxmlformats-officedocument.presentationml.template",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all slides, including hidden ones, with notes and comments."""
        package = OfficePackage(data, name)
        main, root = package.main(), package.main_tree()
        writer = _SlideWriter(package, main, self)
        links = package.relationships(main)
        slides = next((item for item in root if local_name(item) == "sldIdLst"), ())
        for number, slide in enumerate(slides, 1):
            # It has two ids: that of the slide, and that of the relationship.
            ids = [value for key, value in slide.attrib.items() if key.startswith("{")]
            link = links.get(ids[0] if ids else "")
            writer.put_slide(link.target if link else "", number)
        builder = writer.builder
        words = builder.visible_words or 0  # of embedded files
        builder.visible_words = words + writer.words + writer.drawings.words
        add_losses(builder, writer.drawings, package)
        if writer.damaged:
            slides = f"slide{'s' * (len(writer.damaged) > 1)} {', '.join(map(str, writer.damaged[:_MAX_NAMED]))}"
            more = ", ..." if len(writer.damaged) > _MAX_NAMED else ""
            reason = f"parts of {slides}{more} (damaged or missing)"
            builder.losses.append(Loss(reason, pages=tuple(writer.damaged), advice="Open and save it in PowerPoint."))
        title = package.properties.get("title", "")
        return builder.document(
            "markdown", title if title and title != _NO_TITLE else builder.first_heading(), package.meta()
        )


class _SlideWriter:
    """Adds slides to a document."""

    def __init__(self, package: OfficePackage, main: str, outer: Extractor) -> None:
        self.builder = DocumentBuilder(page_unit="slide")
        self.drawings = DrawingTexts(package, outer)
        self.words = 0
        self._package = package
        self._authors = dict(_authors(package, main))
        self._repeated: set[str] = set()
        #: Slides that are missing, or of which only a part could be read.
        self.damaged: list[int] = []

    def put_slide(self, part: str, number: int) -> None:
        """Add a slide: title, contents, what its layout shows, notes, and comments."""
        root = self._package.tree(part)
        if root is None or part in self._package.damaged:
            self._package.damaged.discard(part)
            self.damaged.append(number)
        if root is None:
            return
        shapes = list(_shapes(root))
        title = next((shape for shape in shapes if _placeholder(shape) in _TITLES and _lines(shape)), None)
        if title is not None:
            self.builder.heading(" ".join(text for _, text in _lines(title)), 1, page=number)
        for shape in shapes:
            if shape is not title:
                self._put_shape(shape, part, number)
        self.words += count_visible_words([_without_numbers(root)])
        for layout in self._package.related(part, "slideLayout"):
            self._put_layout(layout, number)
            for master in self._package.related(layout, "slideMaster"):
                self._put_layout(master, number)
        for notes in self._package.related(part, "notesSlide"):
            self._put_notes(notes, number)
        for comments in self._package.related(part, "comments"):
            self._put_comments(comments, number)

    def _put_shape(self, shape: Element, part: str, number: int) -> None:
        kind = _placeholder(shape)
        if kind == "sldNum":
            return
        if local_name(shape) == "grpSp":
            self._put_description(shape, part, number, is_picture=False)
            return
        if kind in ("ftr", "dt", "hdr"):
            self._put_once(shape, number)
            return
        table = next(descendants(shape, "tbl"), None)
        if table is not None:
            titles, rows = table_parts(_rows(table))
            for text in titles:
                self.builder.add(text, page=number)
            self.builder.add(markdown_table(rows), "table", page=number)
        elif local_name(shape) in ("sp", "cxnSp"):
            self._put_frame(_lines(shape), number)
            self._put_description(shape, part, number, is_picture=False)
        else:
            self._put_drawing(shape, part, number)

    def _put_frame(self, lines: list[tuple[str, str]], number: int) -> None:
        """Add a text frame: one paragraph as a paragraph, several as a list with their depths."""
        if len(lines) == 1:
            mark, text = lines[0]
            self.builder.add(f"{mark.strip()} {text}" if mark.strip() not in ("-", "") else text, page=number)
        else:
            self.builder.add("\n".join(f"{mark} {text}" for mark, text in lines), "list", page=number)

    def _put_drawing(self, shape: Element, part: str, number: int) -> None:
        """Add a chart, a diagram, an embedded object or a picture."""
        has_object = False
        for item in descendants(shape, "chart", "relIds", "oleObj"):
            kind = {"chart": "chart", "relIds": "diagram"}.get(local_name(item), "object")
            value = attribute(item, "dm" if kind == "diagram" else "id")
            self.drawings.put(self.builder, Extra(kind, value), part, number)
            has_object = True
        self._put_description(shape, part, number, is_picture=local_name(shape) == "pic" and not has_object)

    def _put_description(self, shape: Element, part: str, number: int, *, is_picture: bool) -> None:
        """Add the description of a shape, and the text of a picture.

        A picture without either is stated, unless it is only decoration.
        """
        properties = next(descendants(shape, "cNvPr"), None)
        text = "" if properties is None else attribute(properties, "descr")
        decorative = any(is_on(item) for item in descendants(shape, "decorative"))
        if text.strip() or (is_picture and not decorative):
            blip = next(descendants(shape, "blip"), None) if is_picture else None
            link = "" if blip is None else picture_link(blip)
            self.drawings.put(self.builder, Extra("picture", text, link=link), part, number)

    def _put_layout(self, part: str, number: int) -> None:
        """Add the texts that a layout or a master shows on its slides, once."""
        root = self._package.tree(part)
        if root is not None and attribute(root, "showMasterSp") != "0":
            for shape in _shapes(root):
                if _placeholder(shape) == "" and local_name(shape) == "sp":
                    self._put_once(shape, number)

    def _put_once(self, shape: Element, number: int) -> None:
        for text in paragraph_texts(shape):
            if text not in self._repeated:
                self._repeated.add(text)
                self.builder.add(text, page=number)

    def _put_notes(self, part: str, number: int) -> None:
        root = self._package.tree(part)
        if root is None:
            return
        for shape in _shapes(root):
            if _placeholder(shape) in ("body", "") and local_name(shape) != "grpSp":
                text = "\n".join(text for _, text in _lines(shape))
                self.builder.add(text, page=number)
                self.words += count_visible_words([shape])

    def _put_comments(self, part: str, number: int) -> None:
        root = self._package.tree(part)
        for comment in descendants(root, "cm", "reply") if root is not None else ():
            body = next((item for item in comment if local_name(item) in ("text", "txBody")), None)
            if body is None:
                continue
            text = " ".join((body.text or "").split()) or " ".join(paragraph_texts(body))
            author = self._authors.get(attribute(comment, "authorId"), "")
            if text:
                note = f"Comment by {author}: {text}" if author else f"Comment: {text}"
                self.builder.add(note, "quote", page=number, markup="> ")
                self.words += count_words(text)


def _authors(package: OfficePackage, main: str) -> Iterator[tuple[str, str]]:
    for part in package.related(main, "commentAuthors", "authors"):
        root = package.tree(part)
        for author in root if root is not None else ():
            yield attribute(author, "id"), attribute(author, "name")


def _shapes(root: Element) -> Iterator[Element]:
    """Yield the shapes of a slide in order, and groups before their shapes."""
    tree = next(descendants(root, "spTree"), None)
    return iter(()) if tree is None else _inner_shapes(tree, 0)


def _inner_shapes(parent: Element, depth: int) -> Iterator[Element]:
    for shape in parent:
        name = local_name(shape)
        if name == "grpSp" and depth < _MAX_DEPTH:
            yield shape  # the group itself has a description only
            yield from _inner_shapes(shape, depth + 1)
        elif name in ("sp", "cxnSp", "pic", "graphicFrame", "contentPart"):
            yield shape


def _placeholder(shape: Element) -> str:
    """Return the kind of a placeholder; empty if it is none."""
    for child in shape:
        if local_name(child).startswith("nv"):
            for item in descendants(child, "ph"):
                return attribute(item, "type") or "obj"
    return ""


def _lines(shape: Element) -> list[tuple[str, str]]:
    """Return the paragraphs of a shape: its mark with the depth, and its text."""
    lines: list[tuple[str, str]] = []
    counts: dict[int, int] = {}
    body = next((child for child in shape if local_name(child) == "txBody"), None)
    for paragraph in body if body is not None else ():
        if local_name(paragraph) != "p":
            continue
        text = " ".join(_text(paragraph).split())
        if not text:
            continue
        properties = next((child for child in paragraph if local_name(child) == "pPr"), None)
        level = attribute(properties, "lvl") if properties is not None else ""
        depth = min(int(level), 8) if level.isdigit() else 0
        number = next(descendants(properties, "buAutoNum"), None) if properties is not None else None
        counts = {at: count for at, count in counts.items() if at < depth or (at == depth and number is not None)}
        mark = "-"
        if number is not None:
            counts[depth] = counts.get(depth, int(attribute(number, "startAt") or 1) - 1) + 1
            mark = _mark(counts[depth], attribute(number, "type"))
        lines.append(("  " * depth + mark, text))
    return lines


def _mark(number: int, kind: str) -> str:
    """Return the number of a paragraph, such as "1." for ``arabicPeriod``."""
    form = next((form for name, form in _FORMS.items() if kind.startswith(name)), "decimal")
    text = written(number, form)
    if kind.endswith("ParenBoth"):
        return f"({text})"
    return text + (")" if kind.endswith("ParenR") else "" if kind.endswith("Plain") else ".")


def _text(paragraph: Element) -> str:
    parts = []
    for child in paragraph:
        name = local_name(child)
        if name == "r":
            parts += [item.text or "" for item in child if local_name(item) == "t"]
        elif name == "br":
            parts.append("\n")
        elif name == "fld" and attribute(child, "type") != "slidenum":
            parts += [item.text or "" for item in child if local_name(item) == "t"]
        elif name == "m":
            parts += [f"${formula}$" for formula in _formulas(child) if formula]
    return "".join(parts)


def _formulas(element: Element) -> Iterator[str]:
    paragraphs = list(descendants(element, "oMathPara"))
    for math in paragraphs or descendants(element, "oMath"):
        yield latex(math)


def _rows(table: Element) -> Iterator[list[Cell]]:
    for row in table:
        if local_name(row) != "tr":
            continue
        cells = []
        for item in row:
            if local_name(item) != "tc" or _is_set(item, "hMerge"):
                continue
            text = "\n".join(text for _, text in _lines(item))
            span = attribute(item, "gridSpan")
            cells.append(Cell(text, int(span) if span.isdigit() else 1, continues=_is_set(item, "vMerge")))
        yield cells


def _is_set(element: Element, name: str) -> bool:
    """Return whether an attribute is set."""
    return attribute(element, name) in ("1", "true")


def _without_numbers(root: Element) -> Element:
    """Remove the numbers of slides, which are no content, from a slide that has been read."""
    removed: Iterable[Element] = [item for item in _shapes(root) if _placeholder(item) == "sldNum"]
    for item in removed:
        item.getparent().remove(item)
    return root

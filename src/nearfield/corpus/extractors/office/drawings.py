"""Charts, diagrams, pictures and embedded files of Office files as blocks, and those that could not be read."""

from __future__ import annotations

import posixpath

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.attached_files import read_embedded
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.embedded.picture_texts import MAX_PICTURE_BYTES, PictureTexts
from nearfield.corpus.extractors.office.charts import paragraph_texts, read_chart, read_diagram
from nearfield.corpus.extractors.office.package import OfficePackage, Relationship, descendants
from nearfield.corpus.extractors.office.runs import Extra
from nearfield.corpus.extractors.office.sheets.number_format import general
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError, MissingExtra


class DrawingTexts:
    """Adds charts, diagrams, embedded files and descriptions of pictures to a document, and counts what has no text.

    Embedded files are read with the options of ``outer``.
    """

    def __init__(self, package: OfficePackage, outer: Extractor) -> None:
        self.package = package
        self._outer = outer
        self._texts = PictureTexts(outer)
        #: Words of charts and diagrams.
        self.words = 0
        #: Pages (0 without pages) of pictures without a description, and of embedded objects.
        self.pictures: list[int] = []
        self.objects: list[int] = []
        #: Why files that the text inserts were not read, by their names.
        self.files: dict[str, str] = {}

    def put(self, builder: DocumentBuilder, extra: Extra, part: str, page: int | None = None) -> None:
        """Add the text of an extra that a part refers to."""
        if extra.kind == "picture":
            self._put_picture(builder, extra, part, page)
        elif extra.kind == "object":
            self.put_object(builder, self.package.relationships(part).get(extra.value), page)
        elif extra.kind == "file":
            self._put_file(builder, self.package.relationships(part).get(extra.value))
        elif extra.kind in ("chart", "diagram"):
            self._put_graphic(builder, extra, part, page)

    def _put_picture(self, builder: DocumentBuilder, extra: Extra, part: str, page: int | None) -> None:
        """Add the description of a picture, and its text."""
        description = " ".join(extra.value.split())
        builder.add(f"Picture: {description}" if description else "", page=page)
        is_read = self.put_picture_text(builder, extra.link, part, page)
        if not description and not is_read:
            self.pictures.append(page or 0)

    def put_picture_text(self, builder: DocumentBuilder, link: str, part: str, page: int | None) -> bool:
        """Add the text of the picture that a part refers to; return whether it has any."""
        target = self.package.relationships(part).get(link) if link and self._outer.options.ocr else None
        if target is None or target.external or self.package.size(target.target) > MAX_PICTURE_BYTES:
            return False
        return self._texts.put(builder, self.package.read(target.target), target.target, page)

    def put_object(self, builder: DocumentBuilder, link: Relationship | None, page: int | None = None) -> None:
        """Add the text of an embedded file; an object of another program is counted."""
        try:
            self._append(builder, link, page)
        except (InputError, MissingExtra):
            self.objects.append(page or 0)

    def _put_file(self, builder: DocumentBuilder, link: Relationship | None) -> None:
        """Add the text of a file that a document inserts."""
        name = posixpath.basename(link.target) if link else "no name"
        try:
            self._append(builder, link, None)
        except (InputError, MissingExtra) as error:
            reason = str(error).removeprefix(f"{name}: ").rstrip(".")
            self.files[name] = "it is outside the document" if link is not None and link.external else reason

    def _append(self, builder: DocumentBuilder, link: Relationship | None, page: int | None) -> None:
        if link is None or link.external or link.target not in self.package.names:
            raise InputError("The file is missing.")
        name, media = posixpath.basename(link.target), self.package.media_type(link.target)
        builder.append(read_embedded(self.package.read(link.target), name, self._outer, media, page))

    def text_losses(self) -> list[Loss]:
        """Return what was not read of the texts of pictures."""
        return self._texts.losses()

    def _put_graphic(self, builder: DocumentBuilder, extra: Extra, part: str, page: int | None) -> None:
        link = self.package.relationships(part).get(extra.value)
        root = self.package.tree(link.target) if link else None
        if link is None or root is None:
            self.objects.append(page or 0)
            return
        texts = [item.text or "" for item in descendants(root, "t")]
        values = {_rounded(item.text or "") for item in descendants(root, "v")} if extra.kind == "chart" else set()
        self.words += count_words(" ".join([*texts, *values]))
        if extra.kind == "chart":
            self._put_chart(builder, root, page)
            for text in chart_shapes(self.package, link.target):
                self.words += count_words(text)
                builder.add(text, page=page)
        else:
            lines = [f"{'  ' * depth}- {text}" for depth, text in read_diagram(root)]
            builder.add("\n".join(lines), "list", page=page)

    def _put_chart(self, builder: DocumentBuilder, root: object, page: int | None) -> None:
        chart = read_chart(root)
        for title in chart.titles:
            builder.add(title, page=page)
        builder.add(markdown_table(chart.rows), "table", page=page)


def chart_shapes(package: OfficePackage, chart: str) -> list[str]:
    """Return the texts of shapes that were drawn on a chart."""
    trees = map(package.tree, package.related(chart, "chartUserShapes"))
    return [text for tree in trees if tree is not None for text in paragraph_texts(tree)]


def add_losses(builder: DocumentBuilder, drawings: DrawingTexts, package: OfficePackage) -> None:
    """State the pictures, embedded objects and damaged parts that were not read."""
    for places, one, many in (
        (drawings.pictures, "1 picture without a description", "pictures without a description"),
        (drawings.objects, "1 embedded object", "embedded objects"),
    ):
        if places:
            pages = tuple(sorted({page for page in places if page}))
            builder.losses.append(Loss(one if len(places) == 1 else f"{len(places)} {many}", pages=pages))
    if drawings.files:
        count = f"{len(drawings.files)} inserted file{'s' * (len(drawings.files) > 1)}"
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(drawings.files.items())[:3])
        builder.losses.append(Loss(f"{count} ({reasons})", advice="Save it in Word as .docx."))
    builder.losses += [*drawings.text_losses(), *part_losses(package)]


def part_losses(package: OfficePackage) -> list[Loss]:
    """Return the losses of damaged parts, and of contents that have no version that can be read."""
    losses = []
    parts = sorted(part for part in package.names if part.endswith((".xml", ".rels")) and part in package.damaged)
    if parts:
        reason = f"{len(parts)} damaged part{'s' * (len(parts) > 1)} of the file ({', '.join(parts[:3])})"
        losses.append(Loss(reason, advice="Open and save it in its program."))
    count = sum(map(len, package.unknown.values()))
    if count:
        reason = f"{count} object{'s' * (count > 1)} of an unknown version of Office"
        losses.append(Loss(f"{reason} ({', '.join(sorted(package.unknown)[:3])})", advice="Save it as .pdf."))
    return losses


def _rounded(value: str) -> str:
    """Return a number as a chart shows it: files have 2.3999999999999999 for 2.4."""
    try:
        return general(float(value))
    except ValueError:
        return value

"""Charts, diagrams and pictures of Word and PowerPoint files as blocks, and those that could not be read."""

from __future__ import annotations

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.office.charts import read_chart, read_diagram
from nearfield.corpus.extractors.office.package import OfficePackage, descendants
from nearfield.corpus.extractors.office.runs import Extra
from nearfield.corpus.extractors.office.sheets.number_format import general
from nearfield.corpus.word_count import count_words


class DrawingTexts:
    """Adds charts, diagrams and descriptions of pictures to a document, and counts what has no text."""

    def __init__(self, package: OfficePackage) -> None:
        self.package = package
        #: Words of charts and diagrams.
        self.words = 0
        #: Pages (0 without pages) of pictures without a description, and of embedded objects.
        self.pictures: list[int] = []
        self.objects: list[int] = []

    def put(self, builder: DocumentBuilder, extra: Extra, part: str, page: int | None = None) -> None:
        """Add the text of an extra that a part refers to."""
        if extra.kind == "picture":
            if extra.value.strip():
                builder.add(f"Picture: {' '.join(extra.value.split())}", page=page)
            else:
                self.pictures.append(page or 0)
        elif extra.kind == "object":
            self.objects.append(page or 0)
        elif extra.kind in ("chart", "diagram"):
            link = self.package.relationships(part).get(extra.value)
            root = self.package.tree(link.target) if link else None
            if root is None:
                self.objects.append(page or 0)
                return
            texts = [item.text or "" for item in descendants(root, "t")]
            values = {_rounded(item.text or "") for item in descendants(root, "v")} if extra.kind == "chart" else set()
            self.words += count_words(" ".join([*texts, *values]))
            if extra.kind == "chart":
                self._put_chart(builder, root, page)
            else:
                lines = [f"{'  ' * depth}- {text}" for depth, text in read_diagram(root)]
                builder.add("\n".join(lines), "list", page=page)

    def _put_chart(self, builder: DocumentBuilder, root: object, page: int | None) -> None:
        chart = read_chart(root)
        for title in chart.titles:
            builder.add(title, page=page)
        builder.add(markdown_table(chart.rows), "table", page=page)


def add_losses(builder: DocumentBuilder, drawings: DrawingTexts, package: OfficePackage) -> None:
    """State the pictures, embedded objects and damaged parts that were not read."""
    for places, one, many in (
        (drawings.pictures, "1 picture without a description", "pictures without a description"),
        (drawings.objects, "1 embedded object", "embedded objects"),
    ):
        if places:
            pages = tuple(sorted({page for page in places if page}))
            builder.losses.append(Loss(one if len(places) == 1 else f"{len(places)} {many}", pages=pages))
    parts = sorted(part for part in package.names if part.endswith((".xml", ".rels")) and part in package.damaged)
    if parts:
        reason = f"{len(parts)} damaged part{'s' * (len(parts) > 1)} of the file ({', '.join(parts[:3])})"
        builder.losses.append(Loss(reason, advice="Open and save it in its program."))
    chunks = sum("afchunk" in name.lower() for name in package.names)
    if chunks:
        builder.losses.append(Loss(f"{chunks} inserted file{'s' * (chunks > 1)}", advice="Save it in Word as .docx."))


def _rounded(value: str) -> str:
    """Return a number as a chart shows it: files have 2.3999999999999999 for 2.4."""
    try:
        return general(float(value))
    except ValueError:
        return value

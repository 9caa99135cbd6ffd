"""Presentations: charts, notes, groups, alternative texts, order of placeholders, nested lists."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.special.word import picture
from tests.support.sample_documents import pptx


def _slide(file: Any, title: str) -> Any:
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = title
    return slide


def _chart(file: Any) -> None:
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Cm

    data = CategoryChartData()
    data.categories = ["Oslo", "Bergen", "Narvik"]
    data.add_series("Passengers", (812, 455, 97))
    slide = _slide(file, "Ferries in summer")
    frame = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Cm(2), Cm(5), Cm(20), Cm(10), data)
    frame.chart.has_title = True
    frame.chart.chart_title.text_frame.text = "Passengers by port"


def _notes(file: Any) -> None:
    slide = _slide(file, "Budget")
    slide.notes_slide.notes_text_frame.text = "Mention that the grant ends in October."


def _pictured(file: Any) -> None:
    from pptx.util import Cm

    shape = _slide(file, "The new hall").shapes.add_picture(io.BytesIO(picture()), Cm(2), Cm(5))
    shape._element.nvPicPr.cNvPr.set("descr", "Timber frame seen from the south")


def _grouped(file: Any) -> None:
    group = _slide(file, "Layers").shapes.add_group_shape()
    for at, text in enumerate(("Top layer of gravel", "Middle layer of sand", "Clay at the bottom")):
        group.shapes.add_textbox(0, at * 900000, 4000000, 800000).text_frame.text = text


def _outline(file: Any) -> None:
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text = "Steps of the survey"
    frame = slide.placeholders[1].text_frame
    frame.text = "Prepare"
    for level, text in ((1, "call the owners"), (1, "print the maps"), (0, "Walk the border"), (0, "Write down")):
        paragraph = frame.add_paragraph()
        paragraph.text, paragraph.level = text, level


def _file(name: str, fault: str, write: Callable[[Any], None], *pieces: str) -> TruthFile:
    return TruthFile(f"{name}.pptx", lambda: pptx(write), pieces, (pieces[0],), fault=fault)


def files() -> Iterator[TruthFile]:
    """Yield presentations with one fault each."""
    data = ("Oslo", "Bergen", "Narvik", "812", "455", "97")
    chart = _file("chart", "data of charts", _chart, "Ferries in summer", "Passengers by port", *data)
    # The data may be listed by rows or by columns.
    yield TruthFile(chart.name, chart.build, chart.pieces[:2] + data[:1] + data[3:4], chart.headings, fault=chart.fault)
    yield _file("notes", "notes", _notes, "Budget", "Mention that the grant ends in October.")
    yield _file("photo", "alternative texts", _pictured, "The new hall", "Timber frame seen from the south")
    layers = ("Top layer of gravel", "Middle layer of sand", "Clay at the bottom")
    yield _file("layers", "groups", _grouped, "Layers", *layers)
    steps = ("Prepare", "call the owners", "print the maps", "Walk the border", "Write down")
    yield _file("steps", "nested lists", _outline, "Steps of the survey", *steps)

"""All files of the corpus: topics in each format, files for single faults, and what LibreOffice makes of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from tests.corpus.truth import special
from tests.corpus.truth.model import FormatWriter, Topic, TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import libreoffice, markup, messages, office, portable

#: Formats that express headings, lists and tables, or leave some of them out.
WRITERS = (
    FormatWriter("txt", markup.plain_text, headings=False, tables=False),
    FormatWriter("md", markup.markdown),
    FormatWriter("html", markup.html, absent=("color: teal",)),
    FormatWriter("xhtml", markup.xhtml),
    FormatWriter("rst", markup.restructured_text, absent=("list-table", "header-rows", "=====")),
    FormatWriter("org", markup.org, absent=(":PROPERTIES:", "toc:nil", "CUSTOM_ID")),
    FormatWriter("adoc", markup.asciidoc, absent=(":toc:", "|===", "options=")),
    FormatWriter("tex", markup.latex, absent=("\\begin", "\\item", "hyperref", "sec:")),
    FormatWriter("srt", markup.subrip, headings=False, tables=False, absent=("00:00", "-->")),
    FormatWriter("vtt", markup.webvtt, headings=False, tables=False, absent=("00:00", "-->", "WEBVTT")),
    FormatWriter("docx", office.docx),
    FormatWriter("pptx", office.pptx),
    FormatWriter("odt", office.odt),
    FormatWriter("odp", office.odp),
    FormatWriter("rtf", office.rtf, absent=("fonttbl", "Times New Roman", "\\pard")),
    FormatWriter("pdf", portable.pdf),
    FormatWriter("eml", messages.eml, headings=False, tables=False, absent=("boundary=", "color: teal")),
    FormatWriter("mbox", messages.mbox, headings=False, tables=False, absent=("Content-Type",)),
    FormatWriter("ipynb", messages.notebook, absent=("cell_type", "nbformat")),
    FormatWriter("epub", messages.epub),
)
#: Topics that each format gets, from the first that no earlier format has.
_PER_FORMAT = 2


@cache
def truth_files() -> tuple[TruthFile, ...]:
    """Return all files that Python writes."""
    return (*_topic_files(), *_table_files(), *special.files())


def _topic_files() -> Iterator[TruthFile]:
    """Yield topics in each format: one with a table, one of any kind."""
    every = list(topics().values())
    tabular = [topic for topic in every if topic.tables]
    for at, writer in enumerate(WRITERS):
        chosen = {tabular[at % len(tabular)].name: tabular[at % len(tabular)]}
        others = (every[(at * _PER_FORMAT + offset) % len(every)] for offset in range(len(every)))
        for topic in others:
            if len(chosen) < _PER_FORMAT:
                chosen.setdefault(topic.name, topic)
        yield from map(writer.file, chosen.values())


def _table_files() -> Iterator[TruthFile]:
    """Yield tables in formats that have nothing else."""
    writers = {
        "xlsx": office.xlsx,
        "ods": office.ods,
        "csv": lambda topic: messages.comma_separated(topic.tables[0]),
        "tsv": lambda topic: messages.comma_separated(topic.tables[0], "\t"),
        "ndjson": lambda topic: messages.json_lines(topic.tables[0]),
    }
    names = ("quarterly-report", "carpenter-invoice", "tomato-growing")
    for suffix, write in writers.items():
        for topic in (topics()[name] for name in names):
            yield _table_file(topic, suffix, partial(write, topic))


def _table_file(topic: Topic, suffix: str, build: Callable[[], bytes]) -> TruthFile:
    # The names of columns may be repeated in each row: they count as cells' names only.
    cells = tuple(cell for row in topic.tables[0][1:] for cell in row)
    return TruthFile(f"{topic.name}.{suffix}", build, cells, tables=topic.tables[:1])


@cache
def libreoffice_files() -> tuple[TruthFile, ...]:
    """Return files that LibreOffice converts from others; none where it is missing."""
    return tuple(libreoffice.converted(truth_files())) if libreoffice.program() else ()

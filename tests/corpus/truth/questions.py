"""Thirty questions over thirty files of mixed formats, and questions without an answer in them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus.truth.catalogue import WRITERS
from tests.corpus.truth.model import FormatWriter, Topic, TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import messages, office, portable

#: Formats of the thirty files, in turn. Tables alone answer a question only where the passage is a cell.
FORMATS = (
    *("pdf", "docx", "html", "eml", "md", "odt", "plain.pdf", "epub", "pptx", "txt"),
    *("rtf", "ipynb", "rst", "xlsx", "tex"),
)
#: Topics whose table answers the question.
_IN_TABLE = ("quarterly-report", "night-train", "aquarium-water", "battery-thesis", "chess-club")

#: Questions about things that none of the files mentions.
UNANSWERABLE = (
    "Which enzyme copies RNA into DNA?",
    "Who won the world cup of table tennis in 1995?",
    "How do I sharpen the blades of a lawn mower?",
    "What is the boiling point of liquid nitrogen?",
    "Which king signed the treaty of Verdun?",
    "How many moons does Neptune have?",
    "What dose of paracetamol may a child take?",
    "When does the swimming pool close on Sundays?",
    "How is a violin bow rehaired?",
    "What is the tax rate on imported tyres?",
)
#: Questions about things that the files mention, for facts that they do not have.
NEAR_MISSES = (
    "What does a ticket to the clock museum cost?",
    "Which colour is the ferry to the lighthouse on Cape Orm?",
    "How many litres does the tank of the Corvo 3 espresso machine contain?",
    "Who is the conductor of the chamber choir Vesper?",
    "Which wallpaper does flat 14 in Quay Street have?",
)


def question_files() -> Iterator[tuple[Topic, TruthFile]]:
    """Yield each topic with its file."""
    writers = {writer.suffix: writer for writer in WRITERS} | {
        "plain.pdf": FormatWriter("pdf", portable.pdf_without_rules),
        "xlsx": FormatWriter("xlsx", office.xlsx),
        "csv": FormatWriter("csv", lambda topic: messages.comma_separated(topic.tables[0])),
    }
    for at, topic in enumerate(topics().values()):
        suffix = FORMATS[at % len(FORMATS)]
        if suffix == "xlsx" and topic.name not in _IN_TABLE:
            suffix = "docx"
        if topic.name in _IN_TABLE[:2]:
            suffix = ("xlsx", "csv")[_IN_TABLE.index(topic.name)]
        yield topic, writers[suffix].file(topic)

"""The content of a topic, and a file with the text, headings and tables that must be extracted from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

#: Rows of cells; the first row has the names of the columns.
TableRows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class HeadingNode:
    """A heading of level 1 to 6."""

    text: str
    level: int


@dataclass(frozen=True)
class ParagraphNode:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class ListNode:
    """A list: depth (from 0) and text of each item."""

    items: tuple[tuple[int, str], ...]
    ordered: bool = False


@dataclass(frozen=True)
class TableNode:
    """A table."""

    rows: TableRows


ContentNode = HeadingNode | ParagraphNode | ListNode | TableNode


@dataclass(frozen=True)
class Topic:
    """A short text about one thing, with a question and the passage that answers it."""

    name: str
    nodes: tuple[ContentNode, ...]
    question: str
    passage: str

    @property
    def title(self) -> str:
        """The text of the first heading."""
        return self.headings[0]

    @property
    def headings(self) -> tuple[str, ...]:
        """The texts of all headings."""
        return tuple(node.text for node in self.nodes if isinstance(node, HeadingNode))

    @property
    def tables(self) -> tuple[TableRows, ...]:
        """The rows of all tables."""
        return tuple(node.rows for node in self.nodes if isinstance(node, TableNode))

    @property
    def pieces(self) -> tuple[str, ...]:
        """All texts in reading order."""
        return tuple(text for node in self.nodes for text in node_texts(node))


def node_texts(node: ContentNode) -> Iterator[str]:
    """Yield the texts of a node in reading order."""
    if isinstance(node, ListNode):
        yield from (text for _, text in node.items)
    elif isinstance(node, TableNode):
        yield from (cell for row in node.rows for cell in row)
    else:
        yield node.text


@dataclass(frozen=True)
class TruthFile:
    """A file, and what must be extracted from it.

    ``build`` returns its bytes. ``pieces`` are its texts in reading order, ``headings`` the texts of its headings.
    ``tables`` have the names of the columns in their first row; a name for a head of two rows has the words of both.
    ``absent`` are texts that must not be extracted, such as markup. ``fault`` names what the file is a test of, empty
    for a plain one. ``writer`` is the program that wrote it.
    """

    name: str
    build: Callable[[], bytes]
    pieces: tuple[str, ...]
    headings: tuple[str, ...] = ()
    tables: tuple[TableRows, ...] = ()
    absent: tuple[str, ...] = ()
    fault: str = ""
    writer: str = "Python"

    @property
    def suffix(self) -> str:
        """The suffix of its name, in lower case and without the dot."""
        return self.name.rpartition(".")[2].lower()


@dataclass(frozen=True)
class FormatWriter:
    """How a format stores a topic: its suffix, the function that writes it, and what the format can express."""

    suffix: str
    write: Callable[[Topic], bytes]
    headings: bool = True
    tables: bool = True
    absent: tuple[str, ...] = field(default=())

    def file(self, topic: Topic) -> TruthFile:
        """Return the file of a topic."""
        return TruthFile(
            f"{topic.name}.{self.suffix}",
            lambda: self.write(topic),
            topic.pieces,
            topic.headings if self.headings else (),
            topic.tables if self.tables else (),
            self.absent,
        )


def renamed(file: TruthFile, name: str, build: Callable[[], bytes], writer: str) -> TruthFile:
    """Return a file with the same truth, in another format that another program writes."""
    return replace(file, name=name, build=build, writer=writer)

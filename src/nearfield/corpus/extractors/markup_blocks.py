"""Blocks of text formats with markup (reStructuredText, Org, AsciiDoc, LaTeX), and how they become a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.document import BlockKind, Document, Loss
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.front_matter import FrontMatter
from nearfield.stores.filters import Value


@dataclass
class MarkupBlock:
    """A block of text; ``level`` is that of a heading, ``items`` are those of a list, with their marks."""

    kind: BlockKind
    text: str
    level: int = 0


@dataclass
class MarkupContent:
    """The blocks of a file, its title and fields, the files that it includes, and further losses."""

    blocks: list[MarkupBlock] = field(default_factory=list)
    title: str = ""
    meta: dict[str, Value] = field(default_factory=dict)
    included: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def add_front(self, front: FrontMatter) -> None:
        """Add front matter: its title counts, its fields are added, and its text is the first paragraph."""
        fields = dict(front.meta)
        self.title = str(fields.pop("title", "")) or self.title
        self.meta = {**fields, **self.meta}
        self.add_fields(front.text)

    def add_fields(self, text: str) -> None:
        """Add the text of fields as the first paragraph, after the title if that is the first block."""
        at = 1 if self.blocks and self.blocks[0].kind == "heading" and self.blocks[0].level == 1 else 0
        self.blocks[at:at] = [MarkupBlock("paragraph", text)] if text else []

    def document(self) -> Document:
        """Return the document of all blocks, as Markdown."""
        builder = DocumentBuilder()
        for block in self.blocks:
            if block.kind == "heading":
                builder.heading(block.text, block.level)
            else:
                builder.add(block.text.rstrip(), block.kind)
        builder.losses += [*included_loss(self.included), *self.losses]
        return builder.document("markdown", self.title or builder.first_heading(), self.meta)


def included_loss(names: Sequence[str]) -> list[Loss]:
    """Return the loss of files that a file includes, if there are any."""
    if not names:
        return []
    shown = ", ".join(list(dict.fromkeys(names))[:3]) + (", ..." if len(set(names)) > 3 else "")
    count = "1 file that it includes" if len(names) == 1 else f"{len(names)} files that it includes"
    return [Loss(f"{count} ({shown})", advice="Index the folder that has them too.")]


def code_block(lines: Iterable[str], language: str = "") -> MarkupBlock:
    """Return a block of code, without the indentation that all lines share."""
    lines = [line.expandtabs(8).rstrip() for line in lines]
    indents = [len(line) - len(line.lstrip()) for line in lines if line]
    text = "\n".join(line[min(indents, default=0) :] for line in lines).strip("\n")
    fence = "```" if "```" not in text else "~~~~"
    return MarkupBlock("code", f"{fence}{language}\n{text}\n{fence}" if text.strip() else "")


def list_item(mark: str, blocks: Iterable[MarkupBlock]) -> str:
    """Return an item of a list, whose further lines are indented."""
    text = "\n".join(block.text for block in blocks if block.text)
    return mark + text.replace("\n", "\n" + " " * len(mark))


def join_lists(blocks: Iterable[MarkupBlock]) -> list[MarkupBlock]:
    """Join lists that follow each other, and leave out empty blocks."""
    joined: list[MarkupBlock] = []
    for block in blocks:
        if not block.text.strip():
            continue
        if block.kind == "list" and joined and joined[-1].kind == "list":
            joined[-1] = MarkupBlock("list", f"{joined[-1].text}\n{block.text}")
        else:
            joined.append(block)
    return joined


def text_fields(fields: Mapping[str, str]) -> dict[str, Value]:
    """Return the fields that have a value, on one line each."""
    return {name: " ".join(value.split()) for name, value in fields.items() if value.strip()}

"""Labels of chunks: the headings of a chunk are those of the section in which its content begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from nearfield.corpus import extractors
from nearfield.corpus.chunkers import open_chunker
from nearfield.corpus.chunkers.chunker import section_paths
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Block, Document
from nearfield.encoder import Encoder
from tests.support import sample_documents

#: Sections in order: level, name, number of sentences. Some are small, some are larger than a chunk, some are empty.
SECTIONS = (
    (1, "Guide", 1), (2, "Apple", 9), (2, "Banana", 0), (3, "Cherry", 8), (3, "Date", 1), (2, "Elder", 12),
    (1, "Fig", 0), (2, "Grape", 7), (2, "Hazel", 2), (2, "Iris", 2),
)  # fmt: skip
PATHS = {
    "Guide": ("Guide",),
    "Apple": ("Guide", "Apple"),
    "Cherry": ("Guide", "Banana", "Cherry"),
    "Date": ("Guide", "Banana", "Date"),
    "Elder": ("Guide", "Elder"),
    "Grape": ("Fig", "Grape"),
    "Hazel": ("Fig", "Hazel"),
    "Iris": ("Fig", "Iris"),
}


def sentences(name: str, count: int) -> str:
    return " ".join(f"In {name} the cat sat on mat {chr(97 + number)}." for number in range(count))


def markdown() -> bytes:
    parts = (f"{'#' * level} {name}\n\n{sentences(name, count)}" for level, name, count in SECTIONS)
    return "\n\n".join(parts).encode()


def closed_markdown() -> bytes:
    parts = (f"{'#' * level} {name} {'#' * level}\n{sentences(name, count)}" for level, name, count in SECTIONS)
    return "\n".join(parts).encode()


def underlined_markdown() -> bytes:
    marks = {1: "\n=====", 2: "\n-----"}
    parts = (
        f"{name}{marks[level]}\n\n{sentences(name, count)}"
        if level in marks
        else f"### {name}\n{sentences(name, count)}"
        for level, name, count in SECTIONS
    )
    return "\n\n".join(parts).encode()


def html() -> bytes:
    parts = (
        f"<h{level}>{name}</h{level}>" + (f"<p>{sentences(name, count)}</p>" if count else "")
        for level, name, count in SECTIONS
    )
    return f"<html><body><main>{''.join(parts)}</main></body></html>".encode()


def docx() -> bytes:
    def write(file: Any) -> None:
        for level, name, count in SECTIONS:
            file.add_heading(name, level)
            if count:
                file.add_paragraph(sentences(name, count))

    return sample_documents.docx(write)


def pdf() -> bytes:
    pages: list[list[sample_documents.Line]] = [[]]
    height = 800
    for level, name, count in SECTIONS:
        lines = [((28, 22, 16)[level - 1], name)]
        lines += [(10, sentence.strip()) for sentence in re.findall(r".+?\.", sentences(name, count))]
        for size, text in lines:
            height -= 40 if size > 10 else 12
            if height < 60:
                pages.append([])
                height = 760
            pages[-1].append((72, height, size, text))
    return sample_documents.pdf(pages)


FILES: dict[str, Callable[[], bytes]] = {
    "a.md": markdown, "closed.md": closed_markdown, "underlined.md": underlined_markdown, "a.html": html,
    "a.docx": docx, "a.pdf": pdf,
}  # fmt: skip


@pytest.fixture(scope="module")
def counter(tiny: Encoder) -> TokenCounter:
    return TokenCounter(tiny.tokenizer)


def extract(name: str) -> Document:
    extractor = extractors.REGISTRY.load(extractors.kind_of(name) or "")
    document: Document = extractor().extract(FILES[name](), name)
    return document


@pytest.mark.parametrize("by", ["auto", "sentence", "markdown"])
@pytest.mark.parametrize("name", FILES)
def test_a_chunk_is_labelled_with_the_section_of_its_content(name: str, by: str, counter: TokenCounter) -> None:
    document = extract(name)
    spans = open_chunker(by, document.form, counter, 58, 0).split(document)
    labels = []
    for span in spans:
        sections = re.findall(r"In (\w+) the", document.text[span.start : span.end])
        if sections:
            labels.append((sections[0], span.headings))
    assert {section for section, _ in labels} > {"Apple", "Cherry", "Elder", "Grape"}
    assert labels == [(section, PATHS[section]) for section, _ in labels]


def test_a_chunk_that_begins_with_a_heading_never_has_the_section_before(counter: TokenCounter) -> None:
    document = extract("a.md")
    spans = open_chunker("auto", document.form, counter, 58, 19).split(document)
    first_lines = [document.text[span.start : span.end].split("\n")[0] for span in spans]
    starting = [(line, span) for line, span in zip(first_lines, spans, strict=True) if line.startswith("#")]
    assert len(starting) > 4
    for line, span in starting:
        assert line.strip("# ") in span.headings


@pytest.mark.parametrize(
    ("start", "end", "path"),
    [
        ("# One", "# Two", ("One",)),  # headings alone
        ("# One", "", ("One", "Three")),
        ("# Two", "", ("One", "Three")),
        ("In Three", "", ("One", "Three")),
        ("Three the", "", ("One", "Three")),
        ("# Four", "", ("Four",)),
    ],
)
def test_headings_that_follow_each_other_lead_to_the_last(start: str, end: str, path: tuple[str, ...]) -> None:
    text = "# One\n\n## Two\n\n## Three\n\nIn Three the cat sat.\n\n# Four"
    blocks = []
    for part, level in (("One", 1), ("Two", 2), ("Three", 2), ("In Three the cat sat.", 0), ("Four", 1)):
        at = text.index(part)
        blocks.append(Block(at, at + len(part), "heading" if level else "paragraph", level))
    path_at = section_paths(Document(text, tuple(blocks), form="markdown"))
    assert path_at(text.index(start), text.index(end) if end else len(text)) == path

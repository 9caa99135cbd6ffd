"""Extractor for Jupyter notebooks: their cells in order, and the text of the outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.markdown import parse_markdown
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: Characters of the outputs of one cell; long logs say little.
_MAX_OUTPUT = 20_000
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?:data:|attachment:)[^)]*\)")

Cell = Mapping[str, Any]


class NotebookExtractor(Extractor):
    """Jupyter notebooks."""

    suffixes = dict.fromkeys((".ipynb",), "application/x-ipynb+json")

    def parse(self, data: bytes, name: str) -> Document:
        """Return text cells as Markdown, code cells as code, and outputs that are text."""
        notebook = json.loads(decode(data, name))
        if not isinstance(notebook, dict):
            raise InputError(f"{name}: damaged, or no notebook.")
        builder = _NotebookBuilder(_language(notebook))
        for cell in _cells(notebook):
            builder.add_cell(cell)
        builder.finish()
        title, meta = _facts(notebook)
        return builder.document("markdown", title or builder.first_heading(), meta)


class _NotebookBuilder(DocumentBuilder):
    """The document of a notebook, built cell by cell."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language
        self._pictures = self._cut = self._words = 0

    def add_cell(self, cell: Cell) -> None:
        source, kind = _joined(cell.get("source", cell.get("input", ""))), cell.get("cell_type")
        self._words += count_words(source)
        if kind == "markdown":
            self._pictures += sum(not match[1].strip() for match in _PICTURE.finditer(source))
            self.append(parse_markdown(_PICTURE.sub(r"\1", source)))
        elif kind == "heading":  # of version 3
            self.heading(source, int(cell.get("level", 1)))
        elif kind == "code":
            self._add_code(source, self._language)
            self._add_outputs(cell.get("outputs") or ())
        else:
            self.add(source, "code")

    def _add_code(self, text: str, language: str) -> None:
        if text.strip():
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            self.add(f"{fence}{language}\n{text.strip(chr(10))}\n{fence}", "code")

    def _add_outputs(self, outputs: Sequence[Cell]) -> None:
        left = _MAX_OUTPUT
        for output in outputs:
            text, is_picture = _output_text(output)
            self._pictures += is_picture
            self._words += count_words(text)
            if len(text) > left:
                self._cut += count_words(text[left:])
                text = text[:left]
            left -= len(text)
            self._add_code(text, "text")

    def finish(self) -> None:
        """Set visible words and losses."""
        self.visible_words = self._words
        if self._pictures:
            plural = "s" if self._pictures > 1 else ""
            self.losses.append(Loss(f"{self._pictures} picture{plural} without a description"))
        if self._cut:
            self.losses.append(Loss(f"outputs beyond {_MAX_OUTPUT:,} characters of a cell", self._cut))


def _output_text(output: Cell) -> tuple[str, bool]:
    """Return the text of an output, and whether it is a picture without one."""
    if output.get("output_type") in ("stream", "pyout") and "text" in output:
        return _ANSI.sub("", _joined(output["text"])), False
    if output.get("output_type") in ("error", "pyerr"):
        trace = _ANSI.sub("", "\n".join(map(str, output.get("traceback") or ())))
        return trace or f"{output.get('ename', '')}: {output.get('evalue', '')}", False
    data = output.get("data", output)
    if not isinstance(data, dict):
        return "", False
    is_picture = any(kind.startswith("image/") or kind in ("png", "jpeg", "svg") for kind in data)
    text = next((_joined(data[kind]) for kind in ("text/markdown", "text/plain", "text/latex") if kind in data), "")
    if not text and "text/html" in data:
        text = _page_text(_joined(data["text/html"]))
    # The text beside a picture names an object of the program, such as <Figure size 640x480>.
    return ("" if is_picture and text.strip().startswith("<") else text), is_picture


def _page_text(markup: str) -> str:
    try:
        return HtmlExtractor().parse(markup.encode("utf-8", "replace"), "output.html").text
    except InputError:  # it shows no text
        return ""


def _cells(notebook: Cell) -> Iterator[Cell]:
    sheets = notebook.get("worksheets") or [notebook]
    for sheet in sheets:
        yield from (cell for cell in sheet.get("cells") or () if isinstance(cell, dict))


def _language(notebook: Cell) -> str:
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") or metadata.get("kernelspec") or {} if isinstance(metadata, dict) else {}
    name = info.get("name") or info.get("language") or "python"
    return str(name) if re.fullmatch(r"[\w+#-]+", str(name)) else ""


def _facts(notebook: Cell) -> tuple[str, dict[str, Value]]:
    """Return the title and the authors that a notebook states."""
    metadata = notebook.get("metadata")
    if not isinstance(metadata, dict):
        return "", {}
    authors = [author.get("name", "") for author in metadata.get("authors") or () if isinstance(author, dict)]
    title = metadata.get("title")
    return title if isinstance(title, str) else "", {"author": ", ".join(authors)} if any(authors) else {}


def _joined(source: object) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)

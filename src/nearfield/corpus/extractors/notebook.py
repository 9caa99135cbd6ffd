"""Extractor for Jupyter notebooks: their cells in order, and the text of the outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.json_data import JsonExtractor
from nearfield.corpus.extractors.markdown import parse_markdown
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: Characters of the outputs of one cell; long logs say little.
_MAX_OUTPUT = 20_000
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?:data:|attachment:)[^)]*\)")

#: A text that names an object of the program instead of showing it, such as <Figure size 640x480>.
_NAMED_OBJECT = re.compile(r"\s*<[^<>\n]*>\s*|\s*[\w.]+\((?:children|value|layout|description)=.*", re.DOTALL)
#: Media types of outputs by their names in version 3.
_OLD_NAMES = {
    "text": "text/plain", "html": "text/html", "latex": "text/latex", "json": "application/json", "png": "image/png",
    "jpeg": "image/jpeg", "svg": "image/svg+xml", "javascript": "application/javascript",
}  # fmt: skip
#: Media types of outputs that a reader does not see.
_UNSEEN = ("application/javascript", "text/javascript")

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
        self.visible_words = 0
        self._language = language
        self._pictures = self._unread = self._cut = self._damaged = 0

    def add_cell(self, cell: object) -> None:
        if not isinstance(cell, dict):
            self._damaged += 1
            return
        source, kind = _joined(cell.get("source", cell.get("input", ""))), cell.get("cell_type")
        if source is None:
            self._damaged += 1
        elif kind == "markdown":
            self._add_markdown(source)
        elif kind == "heading":  # of version 3
            self.see(source)
            level = cell.get("level")
            self.heading(source, level if isinstance(level, int) else 1)
        elif kind == "code":
            self._add_code(source, self._language)
        else:
            self.see(source)
            self.add(source, "code")
        self._add_outputs(cell.get("outputs"))

    def _add_markdown(self, source: str) -> None:
        self._pictures += sum(not match[1].strip() for match in _PICTURE.finditer(source))
        self.see(source)
        document = parse_markdown(_PICTURE.sub(r"\1", source))
        self.append(replace(document, visible_words=0))

    def _add_code(self, text: str, language: str) -> None:
        self.see(text)
        if text.strip():
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            self.add(f"{fence}{language}\n{text.strip(chr(10))}\n{fence}", "code")

    # -- outputs ---------------------------------------------------------------------------------------------------

    def _add_outputs(self, outputs: object) -> None:
        if outputs is not None and not isinstance(outputs, list):
            self._damaged += 1
            return
        left = _MAX_OUTPUT
        for output in outputs or ():
            if not isinstance(output, dict):
                self._damaged += 1
                continue
            kind, text = self._shown(output)
            self._cut += count_words(text[left:])
            text, left = text[:left], max(0, left - len(text))
            if kind == "text/markdown":
                self._add_markdown(text)
            elif kind == "text/latex":
                self.see(text)
                self.add(text)
            else:
                self._add_code(text, "text")

    def _shown(self, output: Cell) -> tuple[str, str]:
        """Return the media type and the text of what an output shows; count pictures and what cannot be read."""
        kind = output.get("output_type")
        if kind == "stream":
            return "text/plain", _ANSI.sub("", _joined(output.get("text")) or "")
        if kind in ("error", "pyerr"):
            trace = output.get("traceback")
            text = _ANSI.sub("", "\n".join(map(str, trace)) if isinstance(trace, list) else "")
            return "text/plain", text or f"{output.get('ename', '')}: {output.get('evalue', '')}"
        data = output.get("data")
        data = (
            data if isinstance(data, dict) else {new: output[old] for old, new in _OLD_NAMES.items() if old in output}
        )
        forms = {media: text for media, value in data.items() if (text := self._text(media, value)).strip()}
        is_picture = any(media.startswith("image/") for media in data)
        named = is_picture or len(forms) > 1 or len(data) > 1
        if named and _NAMED_OBJECT.fullmatch(forms.get("text/plain", "")):
            del forms["text/plain"]
        self._pictures += is_picture
        best = min(forms, key=_rank, default="")
        unread = [media for media in data if media not in _UNSEEN and media != "text/plain"]
        self._unread += not (best or is_picture) and bool(unread)
        return best, forms.get(best, "")

    def _text(self, media: str, value: object) -> str:
        """Return the text of one form of an output; empty if it has none that can be read."""
        if media == "application/json" or media.endswith("/geo+json"):
            return JsonExtractor().parse(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), "").text
        text = _joined(value) or ""
        if media == "text/html":
            return self._page_text(text)
        return _ANSI.sub("", text) if media.startswith("text/") and media not in _UNSEEN else ""

    def _page_text(self, markup: str) -> str:
        try:
            document = HtmlExtractor().parse(markup.encode("utf-8", "replace"), "output.html")
        except InputError:  # it shows no text
            return ""
        self._pictures += bool(document.text.strip() and document.losses)
        return document.text

    def finish(self) -> None:
        """Add the losses."""
        for count, noun, reason in (
            (self._damaged, "cell or output", "that is damaged"),
            (self._pictures, "picture", "without a description"),
            (self._unread, "interactive output", "without a description"),
        ):
            if count:
                self.losses.append(Loss(f"{count} {noun}{'s' if count > 1 else ''} {reason}"))
        if self._cut:
            self.losses.append(Loss(f"outputs beyond {_MAX_OUTPUT:,} characters of a cell", self._cut))


def _rank(media: str) -> int:
    """Return the place of a form of an output among those that say the same; the first one is read."""
    forms = ("text/markdown", "text/latex", "text/plain", "text/html", "application/json")
    return forms.index(media) if media in forms else len(forms)


def _cells(notebook: Cell) -> Iterator[object]:
    sheets = notebook.get("worksheets")
    for sheet in sheets if isinstance(sheets, list) and sheets else [notebook]:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        yield from cells if isinstance(cells, list) else ()


def _language(notebook: Cell) -> str:
    metadata = notebook.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    info = next((info for key in ("language_info", "kernelspec") if isinstance(info := metadata.get(key), dict)), {})
    name = info.get("name") or info.get("language") or "python"
    return str(name) if re.fullmatch(r"[\w+#-]+", str(name)) else ""


def _facts(notebook: Cell) -> tuple[str, dict[str, Value]]:
    """Return the title and the authors that a notebook states."""
    metadata = notebook.get("metadata")
    if not isinstance(metadata, dict):
        return "", {}
    listed = metadata.get("authors")
    authors = (
        [str(author.get("name", "")) for author in listed if isinstance(author, dict)]
        if isinstance(listed, list)
        else []
    )
    title = metadata.get("title")
    return title if isinstance(title, str) else "", {"author": ", ".join(authors)} if any(authors) else {}


def _joined(source: object) -> str | None:
    """Return the text of a source, which may be a list of lines; None if it is something else."""
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    return source if isinstance(source, str) else None

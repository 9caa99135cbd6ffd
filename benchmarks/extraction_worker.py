"""Extract files with one library, in a process with nothing else: ``python extraction_worker.py LIBRARY FOLDER``.

It imports nothing of this project unless the library is ``nearfield``, so that any Python can run it. It prints a line
of JSON: the text of each file in Markdown (or its error), seconds, peak memory in MiB, and the size of the library.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

#: Distributions of each library, with the extras for the formats that are compared.
DISTRIBUTIONS = {
    "nearfield": (),
    "markitdown": ("markitdown[docx,pptx,xlsx,xls,pdf,outlook]",),
    "docling": ("docling-slim[format-docx,format-html,format-pptx,format-xlsx,format-opendocument,format-email]",),
    "kreuzberg": ("kreuzberg",),
    "pypdf": ("pypdf",),
    "pdfminer": ("pdfminer.six",),
    "pdfplumber": ("pdfplumber",),
    "pypdfium2": ("pypdfium2",),
    "calamine": ("python-calamine",),
}
#: Of docling, the backends that need no models: module, class and format by suffix.
_DOCLING = {
    "docx": ("msword_backend", "MsWordDocumentBackend", "DOCX"),
    "pptx": ("mspowerpoint_backend", "MsPowerpointDocumentBackend", "PPTX"),
    "xlsx": ("msexcel_backend", "MsExcelDocumentBackend", "XLSX"),
    "html": ("html_backend", "HTMLDocumentBackend", "HTML"),
    "xhtml": ("html_backend", "HTMLDocumentBackend", "HTML"),
    "md": ("md_backend", "MarkdownDocumentBackend", "MD"),
    "csv": ("csv_backend", "CsvDocumentBackend", "CSV"),
    "adoc": ("asciidoc_backend", "AsciiDocBackend", "ASCIIDOC"),
    "odt": ("opendocument_backend", "OdtDocumentBackend", "ODT"),
    "odp": ("opendocument_backend", "OdpDocumentBackend", "ODP"),
    "ods": ("opendocument_backend", "OdsDocumentBackend", "ODS"),
    "epub": ("epub_backend", "EpubDocumentBackend", "EPUB"),
    "eml": ("email_backend", "EmailDocumentBackend", "EMAIL"),
    "vtt": ("webvtt_backend", "WebVTTDocumentBackend", "VTT"),
    "tex": ("latex_backend", "LatexDocumentBackend", "LATEX"),
}


class NotRead(Exception):
    """The library does not read this type of file."""


def _markdown_table(rows: Iterable[Iterable[Any]]) -> str:
    lines = ["| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([*lines[:1], "| --- |", *lines[1:]])


def _only(path: Path, *suffixes: str) -> None:
    if path.suffix.lstrip(".") not in suffixes:
        raise NotRead


def _markitdown() -> Callable[[Path], str]:
    converter = importlib.import_module("markitdown").MarkItDown()
    return lambda path: str(converter.convert(str(path)).text_content)


def _docling() -> Callable[[Path], str]:
    formats = importlib.import_module("docling.datamodel.base_models").InputFormat
    document = importlib.import_module("docling.datamodel.document").InputDocument

    def extract(path: Path) -> str:
        _only(path, *_DOCLING)
        module, name, kind = _DOCLING[path.suffix.lstrip(".")]
        backend = getattr(importlib.import_module(f"docling.backend.{module}"), name)
        opened = document(path_or_stream=path, format=formats[kind], backend=backend, filename=path.name)
        return str(backend(opened, path).convert().export_to_markdown())

    return extract


def _kreuzberg() -> Callable[[Path], str]:
    library = importlib.import_module("kreuzberg")
    config = library.ExtractionConfig(output_format="markdown", use_cache=False)
    return lambda path: str(library.extract_file_sync(path, config=config).content)


def _pypdf() -> Callable[[Path], str]:
    reader = importlib.import_module("pypdf").PdfReader

    def extract(path: Path) -> str:
        _only(path, "pdf")
        return "\n\n".join(page.extract_text() for page in reader(path).pages)

    return extract


def _pdfminer() -> Callable[[Path], str]:
    library = importlib.import_module("pdfminer.high_level")

    def extract(path: Path) -> str:
        _only(path, "pdf")
        return str(library.extract_text(path))

    return extract


def _pdfplumber() -> Callable[[Path], str]:
    library = importlib.import_module("pdfplumber")

    def extract(path: Path) -> str:
        _only(path, "pdf")
        with library.open(path) as file:
            texts = [
                "\n\n".join([page.extract_text(), *map(_markdown_table, page.extract_tables())]) for page in file.pages
            ]
        return "\n\n".join(texts)

    return extract


def _pypdfium2() -> Callable[[Path], str]:
    library = importlib.import_module("pypdfium2")

    def extract(path: Path) -> str:
        _only(path, "pdf")
        return "\n\n".join(page.get_textpage().get_text_bounded() for page in library.PdfDocument(path))

    return extract


def _calamine() -> Callable[[Path], str]:
    library = importlib.import_module("python_calamine")

    def extract(path: Path) -> str:
        _only(path, "xlsx", "xls", "ods")
        book = library.CalamineWorkbook.from_path(path)
        return "\n\n".join(_markdown_table(book.get_sheet_by_name(name).to_python()) for name in book.sheet_names)

    return extract


def _nearfield() -> Callable[[Path], dict[str, Any]]:
    formats = importlib.import_module("tools.formats")
    truth = importlib.import_module("tests.corpus.truth.model").TruthFile

    def extract(path: Path) -> dict[str, Any]:
        documents = [document for _, document in formats.read_documents(truth(path.name, path.read_bytes, ()))]
        document = formats.join_documents([formats.clean(document).document for document in documents])
        blocks = [(block.start, block.end, block.kind, block.level) for block in document.blocks]
        # The cleaned text is without lines that all pages have: a collection stores these once.
        whole = "\n".join(document.text for document in documents)
        return {"text": document.text, "title": document.title, "blocks": blocks, "whole": whole}

    return extract


LIBRARIES: dict[str, Callable[[], Callable[[Path], Any]]] = {
    "nearfield": _nearfield,
    "markitdown": _markitdown,
    "docling": _docling,
    "kreuzberg": _kreuzberg,
    "pypdf": _pypdf,
    "pdfminer": _pdfminer,
    "pdfplumber": _pdfplumber,
    "pypdfium2": _pypdfium2,
    "calamine": _calamine,
}


def installed_size(requirements: Iterable[str]) -> tuple[int, int]:
    """Return the number of distributions that these need, themselves included, and their size in bytes."""
    markers = importlib.import_module("packaging.requirements")
    todo = [markers.Requirement(text) for text in requirements]
    sizes: dict[str, int] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        requirement = todo.pop()
        key = requirement.name.lower(), tuple(sorted(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in distribution.files or ()]
        sizes[key[0]] = sum(path.stat().st_size for path in paths if path.is_file())
        for text in distribution.requires or ():
            needed = markers.Requirement(text)
            extras = ("", *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return len(sizes), sum(sizes.values())


def _peak_mib() -> float:
    # Not getrusage: its peak includes that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    """Extract all files of a folder, and print the results."""
    library, folder = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    files: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        extract = LIBRARIES[library]()
        started = time.perf_counter()
        for path in sorted(folder.iterdir()):
            begin = time.perf_counter()
            try:
                files[path.name] = {"result": extract(path)}
            except NotRead:
                continue
            except BaseException as error:  # noqa: BLE001 - libraries raise anything, also from Rust
                files[path.name] = {"error": f"{type(error).__name__}: {error}"[:200]}
            files[path.name]["seconds"] = time.perf_counter() - begin
    count, size = installed_size(DISTRIBUTIONS[library])
    print(
        json.dumps(
            {
                "files": files,
                "import_seconds": started - began,
                "peak_mib": _peak_mib(),
                "distributions": count,
                "size": size,
            }
        )
    )


if __name__ == "__main__":
    main()

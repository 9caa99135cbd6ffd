"""Compare extractors with those of other libraries, on the corpus with truth.

    python -m benchmarks.extraction --python VENV/bin/python          # all libraries that it has
    python -m benchmarks.extraction --python VENV/bin/python --only markitdown kreuzberg
    python -m benchmarks.extraction --python VENV/bin/python --folder SAMPLES

The other libraries are not dependencies of the project. Install them into a virtual environment, such as::

    pip install "markitdown[docx,pptx,xlsx,xls,pdf,outlook]" kreuzberg pypdf pdfminer.six pdfplumber pypdfium2 \
        python-calamine "docling-slim[format-docx,format-html,format-pptx,format-xlsx,format-markdown]"

Each library runs in a process (``extraction_worker.py``). The shares are those of ``tests/corpus/truth/score.py``,
as means over the files of the types that a library reads; one on which it fails counts as 0. ``clean`` is the share of
files without text that is no content, such as markup.

``--folder`` measures files without known truth instead, such as other projects' samples: the mean share of the words
that ``visible_words.py`` counts, and the share of files of which less than 0.95 is read.

unstructured is not among them: it downloads a spaCy model before it reads any file, plain text included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.extraction_worker import LIBRARIES
from benchmarks.visible_words import visible_text
from nearfield.corpus.document import Block, Document
from tests.corpus.truth.catalogue import libreoffice_files, truth_files
from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.score import TruthScore, score_document, score_markdown, words

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/extraction.json"
#: Formats of a row of the table, by suffix.
GROUPS = {
    "PDF": ("pdf",),
    "Word": ("docx",),
    "slides": ("pptx",),
    "sheets": ("xlsx",),
    "OpenDocument, RTF": ("odt", "odp", "ods", "rtf"),
    "Office before 2007": ("doc", "xls", "ppt"),
    "HTML": ("html", "xhtml"),
    "mail, books, notebooks": ("eml", "mbox", "epub", "ipynb"),
    "Markdown": ("md", "mdx"),
    "other markup": ("rst", "org", "adoc", "tex", "srt", "vtt"),
    "text": ("txt",),
    "data": ("csv", "tsv", "ndjson", "json", "xml", "yaml", "toml", "ics", "vcf", "zip"),
}
_TIMEOUT = 900
#: Share below which a file counts as incomplete.
_LOW = 0.95


def measure(libraries: Iterable[str], python: str) -> dict[str, Any]:
    """Return the results of each library by its name."""
    files = {_file_name(file): file for file in (*truth_files(), *libreoffice_files())}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for file_name, file in files.items():
            Path(name, file_name).write_bytes(file.build())
        for library in libraries:
            output = _run(library, python, name)
            if output is not None:
                results[library] = _summary(output, files)
                print(json.dumps({library: results[library]["all"]}), flush=True)
    return results


def _run(library: str, python: str, folder: str) -> dict[str, Any] | None:
    """Return what the worker prints; None if the library cannot be imported."""
    program = sys.executable if library == "nearfield" else python
    command = [program, str(Path(__file__).with_name("extraction_worker.py")), library, folder]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths} if library == "nearfield" else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env=environment)
    if done.returncode:
        print(f"{library}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_folder(libraries: Iterable[str], python: str, folder: Path) -> dict[str, Any]:
    """Return the share of visible words that each library keeps of the files of a folder, by suffix."""
    visible = {path.name: Counter(words(visible_text(path))) for path in sorted(folder.iterdir())}
    results: dict[str, Any] = {}
    for library in libraries:
        output = _run(library, python, str(folder))
        if output is None:
            continue
        shares: dict[str, list[float]] = defaultdict(list)
        for name, entry in output["files"].items():
            if visible[name]:
                shares[Path(name).suffix].append(_kept_share(entry, visible[name]))
        results[library] = {
            suffix: {
                "files": len(values),
                "words": round(fmean(values), 3),
                "below": round(fmean(value < _LOW for value in values), 3),
            }
            for suffix, values in sorted(shares.items())
            if any(values)
        }
        results[library]["seconds"] = round(sum(entry["seconds"] for entry in output["files"].values()), 1)
        results[library]["peak_mib"] = round(output["peak_mib"])
        print(json.dumps({library: results[library]}), flush=True)
    return results


def _kept_share(entry: Mapping[str, Any], visible: Counter[str]) -> float:
    result = entry.get("result", "")
    text = result if isinstance(result, str) else result["whole"]
    return sum((visible & Counter(words(text))).values()) / sum(visible.values())


def _file_name(file: TruthFile) -> str:
    """Return a name that is unique: LibreOffice's files may have the names of others."""
    return file.name if file.writer == "Python" else f"libreoffice-{file.name}"


def _summary(output: Mapping[str, Any], files: Mapping[str, TruthFile]) -> dict[str, Any]:
    entries = output["files"]
    scores = {name: _score(entry, files[name]) for name, entry in entries.items()}
    # A type of file is supported if one of its files is read.
    suffixes = {files[name].suffix for name, score in scores.items() if score.words}
    supported = {
        group: [name for name in scores if files[name].suffix in suffixes.intersection(members)]
        for group, members in GROUPS.items()
    }
    read = [name for names in supported.values() for name in names]
    return {
        "all": _shares([scores[name] for name in read]),
        "groups": {group: _shares([scores[name] for name in names]) for group, names in supported.items() if names},
        "files": len(read),
        "seconds": sum(entries[name]["seconds"] for name in read),
        **{key: output[key] for key in ("import_seconds", "peak_mib", "distributions", "size")},
        "errors": {name: entry["error"] for name, entry in entries.items() if "error" in entry},
        "scores": {name: asdict(scores[name]) for name in read},
    }


def _score(entry: Mapping[str, Any], file: TruthFile) -> TruthScore:
    if "error" in entry:
        return TruthScore(0.0, 0.0, 0.0 if file.headings else None, 0.0 if file.tables else None)
    result = entry["result"]
    if isinstance(result, str):
        return score_markdown(result, file)
    blocks = tuple(Block(start, end, kind, level) for start, end, kind, level in result["blocks"])
    return score_document(Document(result["text"], blocks, result["title"]), file)


def _shares(scores: Sequence[TruthScore]) -> dict[str, Any]:
    def mean(share: Callable[[TruthScore], float | None]) -> float | None:
        shares = [value for value in map(share, scores) if value is not None]
        return round(fmean(shares), 3) if shares else None

    return {
        "files": len(scores),
        "words": mean(lambda score: score.words),
        "order": mean(lambda score: score.order),
        "headings": mean(lambda score: score.headings),
        "cells": mean(lambda score: score.cells),
        "clean": mean(lambda score: float(not score.present)),
    }


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown: one table of all formats, one of words and cells by format."""
    shares = ("words", "order", "headings", "cells")
    lines = [
        "| library | files | words | order | headings | cells | clean | ms a file | import s | MiB | packages, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        figures = " | ".join(_figure(result["all"][key]) for key in (*shares, "clean"))
        speed = f"{result['seconds'] / result['files'] * 1000:.0f} | {result['import_seconds']:.1f}"
        weight = f"{result['distributions']}, {result['size'] / 2**20:.0f}" if result["distributions"] else "-"
        lines.append(f"| {name} | {result['files']} | {figures} | {speed} | {result['peak_mib']:.0f} | {weight} |")
        if name != "nearfield" and "nearfield" in results:
            same = _same_files(results["nearfield"], result)
            figures = " | ".join(_figure(same[key]) for key in (*shares, "clean"))
            lines.append(f"| nearfield, the same files | {same['files']} | {figures} | | | | |")
    lines += ["", "| format | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for group in GROUPS:
        cells = [result["groups"].get(group) for result in results.values()]
        texts = [f"{_figure(part['words'])} / {_figure(part['cells'])}" if part else "-" for part in cells]
        lines.append(f"| {group} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _same_files(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    scores = [TruthScore(**ours["scores"][name]) for name in other["scores"] if name in ours["scores"]]
    return _shares(scores)


def _figure(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="Python of an environment with the libraries")
    parser.add_argument("--only", nargs="*", default=list(LIBRARIES), help="libraries")
    parser.add_argument("--folder", type=Path, help="measure these files instead")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.folder:
        measure_folder(arguments.only, arguments.python, arguments.folder)
        return
    results = measure(arguments.only, arguments.python)
    print(table(results))
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

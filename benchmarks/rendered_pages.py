"""Retrieval of scanned pages: abstracts drawn as pictures, read by OCR, beside the same abstracts as texts.

    python -m benchmarks.rendered_pages [--count 100] [--noisy]

draws abstracts of SciFact (``../shared/data/scifact``), each on a page of a PDF without a text layer; indexes them with
``ocr`` beside 500 other abstracts that are written; and searches for each by a claim that it supports or refutes. The
same claims are searched where all abstracts are written. ``--noisy`` adds noise and tilts the pages. It needs the extra
``ocr``. No paper was scanned: figures compare OCR with plain text, and promise nothing about a fax.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.known_answers import SearchTask, index_files, recalls, search_task, texts_read, write_texts
from benchmarks.speech import error_rate
from nearfield.hardware import cpu_name
from tests.support import scanned_pages

#: Documents among which an abstract must be, pixels of the letters, and letters that fit on a page.
_DEPTHS, _SIZE, _LETTERS = (1, 5, 10), 22, 3000
_TILT = 0.7


@dataclass(frozen=True)
class PageResult:
    """What a collection of pages is worth: the share of words that are wrong, recalls, and seconds of its run."""

    name: str
    errors: float
    recalls: list[float]
    seconds: float

    def row(self) -> str:
        """Return the row of the table."""
        shares = " | ".join(f"{recall:.0%}" for recall in self.recalls)
        return f"| {self.name} | {self.errors:.1%} | {shares} | {self.seconds:.0f} s |"


def write_pages(folder: Path, task: SearchTask, *, noisy: bool) -> Path:
    """Write a PDF of one picture for each abstract, with its number as name."""
    folder.mkdir()
    for number, item in enumerate(task.answers):
        picture = scanned_pages.page(item.text, _SIZE)
        if noisy:
            picture = scanned_pages.noisy(scanned_pages.skewed(picture, _TILT), seed=number)
        (folder / f"{number}.pdf").write_bytes(scanned_pages.pdf([picture]))
    return folder


def measure(name: str, task: SearchTask, source: Path, definition: Mapping[str, object], folder: Path) -> PageResult:
    """Return the figures of the files of a folder."""
    started = time.perf_counter()
    with index_files(folder, source, definition) as collection:
        seconds, errors = time.perf_counter() - started, error_rate(task, texts_read(collection))
        return PageResult(name, errors, recalls(collection, task, folder, _DEPTHS), seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="abstracts that are searched [100]")
    parser.add_argument("--noisy", action="store_true", help="noise, and pages that are tilted")
    options = parser.parse_args()
    task = search_task("scifact", options.count, most_letters=_LETTERS)
    print(f"{cpu_name()}: {len(task.answers)} abstracts, {len(task.others)} others")
    columns = " | ".join(f"recall@{depth}" for depth in _DEPTHS)
    print(f"| abstracts | wrong words | {columns} | indexed in |\n|{'---|' * (len(_DEPTHS) + 3)}")
    with tempfile.TemporaryDirectory() as place:
        texts = write_texts(Path(place) / "texts", [item.text for item in task.answers])
        print(measure("written", task, texts, {}, Path(place)).row(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        pages = write_pages(Path(place) / "pages", task, noisy=options.noisy)
        print(measure("scanned", task, pages, {"ocr": True}, Path(place)).row())


if __name__ == "__main__":
    main()

"""Measure what extractors keep of the corpus with truth, and write ``docs/reference/formats.md``.

python -m tools.formats                  # write the page
python -m tools.formats --files          # scores of every file
python -m tools.formats --files pdf      # of files whose name or fault has "pdf"; prints text that scores low
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.reader import kind_of
from nearfield.errors import NearfieldError
from tests.corpus.truth.catalogue import libreoffice_files, truth_files
from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.score import TruthScore, score_document

#: The lowest share that counts as good.
GOOD = 0.99


@dataclass(frozen=True)
class FileResult:
    """A file, the extractor that read it, and its scores; or the message of its error."""

    file: TruthFile
    extractor: str = ""
    document: Document | None = None
    score: TruthScore | None = None
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether all scores are good."""
        return self.score is not None and self.score.lowest >= GOOD


def measure(file: TruthFile) -> FileResult:
    """Return the scores of a file, which is read in this process."""
    data = file.build()
    extractor = ""
    try:
        extractor = kind_of(data, file.name)
        document = REGISTRY.load(extractor)().extract(data, file.name)
    except NearfieldError as error:
        return FileResult(file, extractor, error=str(error))
    return FileResult(file, extractor, document, score_document(document, file))


def _print_files(files: Iterable[TruthFile], *, texts: bool) -> None:
    print(f"{'file':30} {'extractor':10} words order heads cells")
    for result in map(measure, files):
        file, score = result.file, result.score
        if score is None or result.document is None:
            print(f"{file.name:30} {result.extractor:10} {result.error[:140]}  ({file.fault})  <<<")
            continue
        shares = (score.words, score.order, score.headings, score.cells)
        columns = " ".join("    -" if share is None else f"{share:5.3f}" for share in shares)
        present = f"  present: {', '.join(score.present)}" if score.present else ""
        print(f"{file.name:30} {result.extractor:10} {columns}{present}  {file.fault}{'' if result.good else '  <<<'}")
        if texts and not result.good:
            print("".join(f"    {line}\n" for line in result.document.text.splitlines()))
            print("    expected:", *file.pieces, sep="\n    ")


def main() -> None:
    """Write the page, or print the scores of files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="?", const="", metavar="PART", help="print the scores of files")
    part = parser.parse_args().files
    if part is not None:
        files = [file for file in (*truth_files(), *libreoffice_files()) if part in file.name or part in file.fault]
        _print_files(files, texts=bool(part))


if __name__ == "__main__":
    main()

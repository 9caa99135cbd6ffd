"""Share of the words of PDF files that an index would have, by ``pdftotext``, and the status that it would show.

    python -m benchmarks.pdf_words FOLDER                        # the mean, and each file below 0.95
    python -m benchmarks.pdf_words FOLDER --below 0.97 --missing # with the words that are missing

Each file is read as by ``nearfield index``: in the sandbox, without OCR. Both texts are compared in NFKC and lower
case, with words joined that are broken at the end of a line, without marks of direction, with a space between Arabic
or Hebrew and Latin letters, and with lam and alef in any order (``pdftotext`` turns the ligature of both round). Lines
that repeat on the pages of a document count as often as they are shown: they are stored once and found from there.

``words`` is the share of the words of ``pdftotext``. ``share`` counts a line as read also if all its letters are in the
text in the same order, and only the spaces are elsewhere, as in "C O N S" and "CONS". Each part of a text counts once.

``pdf_artefacts.toml`` names the files whose text by ``pdftotext`` is wrong, with the reason. They are listed, and not
in the mean. The mean is also given without the files that are ``partial`` or ``failed``: they say what is missing.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.visible_words import visible_text
from nearfield.corpus.document import Document
from nearfield.corpus.extractors.pdf import PdfExtractor
from nearfield.corpus.extractors.sandbox import ExtractorSandbox
from nearfield.corpus.indexing.accounting import WordCount, account
from nearfield.corpus.indexing.cleaning.document_cleaner import clean
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.errors import NearfieldError
from tests.corpus.truth.score import words

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ARTEFACTS = Path(__file__).with_name("pdf_artefacts.toml")
#: A share below which a file must say what is missing.
LOW = 0.95
#: The shortest line that is recognised by its letters.
_MIN_LINE = 4
_BROKEN = re.compile(r"(?<=[^\W\d])[-\u2010\u00ad]\n\s*(?=[^\W\d])")
_DIRECTIONS = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_TURN = re.compile("(?<=[\u0590-\u08ff])(?=[0-9A-Za-z])|(?<=[0-9A-Za-z])(?=[\u0590-\u08ff])")
_LAM_ALEF = re.compile("[\u0622\u0623\u0625\u0627\u0644\u0671]{2,}")


@dataclass(frozen=True)
class PdfResult:
    """A file, the number of words that ``pdftotext`` finds, the shares that are read, its status and its reasons."""

    name: str
    count: int
    words: float
    share: float
    status: str
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    artefact: str = ""


def measure(folder: Path) -> Iterator[PdfResult]:
    """Yield the result of each PDF below a folder in which ``pdftotext`` finds a word."""
    artefacts = tomllib.loads(ARTEFACTS.read_text()) if ARTEFACTS.exists() else {}
    sandbox = ExtractorSandbox(deadline=600)  # the machine may be busy
    try:
        for path in sorted(folder.rglob("*.pdf")):
            try:
                visible = normal(visible_text(path))
            except subprocess.TimeoutExpired:
                continue
            if words(visible):
                yield _measure(path, visible, sandbox, _artefact(path.name, artefacts))
    finally:
        sandbox.close()


def _artefact(name: str, artefacts: Mapping[str, str]) -> str:
    """Return why the text of a file by ``pdftotext`` is wrong; names of samples may begin with their folders."""
    return next((reason for known, reason in artefacts.items() if name.endswith(known)), "")


def normal(text: str) -> str:
    """Return a text as it is compared."""
    text = unicodedata.normalize("NFKC", _DIRECTIONS.sub("", _BROKEN.sub("", text)))
    return _LAM_ALEF.sub(lambda match: "".join(sorted(match[0])), _TURN.sub(" ", text))


def missing_words(visible: str, text: str) -> list[str]:
    """Return the words of a visible text that another text does not have, whatever its spaces."""
    found = words(text)
    squeezed, lost = "".join(found), list[str]()
    for line in visible.splitlines():
        parts = words(line)
        letters = "".join(parts)
        at = squeezed.find(letters) if len(letters) >= _MIN_LINE else -1
        if at < 0:
            lost += parts
        else:
            squeezed = f"{squeezed[:at]}{chr(0) * len(letters)}{squeezed[at + len(letters) :]}"
    return list((Counter(lost) - Counter(_uncovered(found, squeezed))).elements())


def _uncovered(found: Sequence[str], squeezed: str) -> Iterator[str]:
    """Yield the words that no line covers, which is zeros in the squeezed text."""
    start = 0
    for word in found:
        if squeezed.startswith(word, start):
            yield word
        start += len(word)


def _measure(path: Path, visible: str, sandbox: ExtractorSandbox, artefact: str) -> PdfResult:
    counts = Counter(words(visible))
    total = counts.total()
    try:
        document = sandbox.extract(PdfExtractor, path.read_bytes(), path.name)
    except NearfieldError as error:
        return PdfResult(path.name, total, 0.0, 0.0, "failed", (str(error),), (), artefact)
    text = normal(f"{document.text}\n{document.title}")
    lost = list((counts - Counter(words(text))).elements())
    missing = missing_words(visible, text) if lost else []
    missing = min(missing, lost, key=len)
    record = _account(document)
    status = "partial" if record.partial else "done"
    reasons = tuple(loss.reason for loss in record.losses)
    share, strict = 1 - len(missing) / total, 1 - len(lost) / total
    return PdfResult(path.name, total, strict, share, status, reasons, tuple(missing), artefact)


def _account(document: Document) -> DocumentRecord:
    cleaned = clean(document)
    record = DocumentRecord("", "", "", "", digest="", version="")
    return account(record, document, WordCount(cleaned.words), has_chunks=cleaned.words > 0)


def report(results: Sequence[PdfResult], below: float, *, missing: bool) -> Iterator[str]:
    """Yield the lines of a report."""
    for result in sorted(results, key=lambda result: result.share):
        if result.share < below:
            why = f"artefact: {result.artefact}" if result.artefact else "; ".join(result.reasons)
            yield f"{result.share:.3f} ({result.words:.3f}) {result.count:6} {result.status:7} {result.name}: {why}"
            if missing:
                yield f"      {' '.join(result.missing[:60])}"
    sound = [result for result in results if not result.artefact]
    yield _mean("all", results)
    yield _mean("without artefacts of pdftotext", sound)
    yield _mean("of these done", [result for result in sound if result.status == "done"])
    silent = [result for result in sound if result.status == "done" and result.share < LOW]
    yield f"done below {LOW}: {len(silent)}"


def _mean(name: str, results: Iterable[PdfResult]) -> str:
    shares = [(result.share, result.words) for result in results]
    share, strict = (fmean(values) for values in zip(*shares, strict=True))
    below = sum(share < LOW for share, _ in shares)
    return f"{name}: mean share {share:.4f}, of words {strict:.4f}, of {len(shares)} files, {below} below {LOW}"


def main() -> None:
    """Measure a folder and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--below", type=float, default=LOW, help="list the files below this share")
    parser.add_argument("--missing", action="store_true", help="print the words that are missing")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    results = list(measure(arguments.folder))
    print("\n".join(report(results, arguments.below, missing=arguments.missing)))
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()

"""Word accuracy of OCR on pages whose text is known: sizes, fonts, columns, tables, turned, tilted and noisy pages.

    python -m benchmarks.ocr_accuracy

prints a row for each kind of page: pages, words, the share of words that were read right in the right order, and
seconds a page.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from difflib import SequenceMatcher

from nearfield.corpus.extractors.ocr.page_reader import OcrPageReader
from nearfield.corpus.extractors.options import ExtractionOptions
from tests.support import scanned_pages as scans
from tests.support.scanned_pages import ScannedPage

_ENGLISH = """The tenant shall pay the monthly rent of 1,284.50 euros in advance, at the latest on the third working \
day of each month. Payments are credited first to interest, then to costs, and last to the principal claim.

Heating and hot water are settled once a year. The landlord presents a written account within twelve months after the \
end of the period; a later claim is excluded unless the delay was beyond his control.

Either party may terminate the agreement with a notice of three months. Notice must be given in writing and signed by \
hand; an e-mail to office@example.org or a call to +49 30 901820 does not suffice.

The deposit amounts to three monthly rents and is kept apart from the assets of the landlord. It is repaid with \
interest after the keys were returned and all rooms (kitchen, bathroom, cellar) were inspected together."""
_OTHERS = """Der Mieter hat die Räume pfleglich zu behandeln; größere Schäden sind unverzüglich anzuzeigen. Für \
Schönheitsreparaturen gilt § 12 Absatz 3.

Le locataire s'engage à payer le loyer à l'échéance prévue. Les frais d'entretien, jusqu'à 150 €, sont à sa charge.

El inquilino devolverá la vivienda en el mismo estado en que la recibió. El señor Núñez entregará las llaves mañana.

Nájemce je povinen platit nájemné včas. Żółta łódź stoi w porcie, a jej właściciel śpi."""
_ROWS = [
    ("Item", "Number", "Price", "Total"),
    ("Desk lamp", "4", "39.90", "159.60"),
    ("Office chair", "12", "184.00", "2,208.00"),
    ("Whiteboard", "2", "75.25", "150.50"),
    ("Coat rack", "1", "48.00", "48.00"),
    ("Sum", "19", "", "2,566.10"),
]


def pages() -> Iterator[tuple[str, ScannedPage]]:
    """Yield pages with the kind of each."""
    for size in (14, 17, 20, 24, 32):
        yield "one column, 14 to 32 px", _page(f"{size} px", _ENGLISH, size)
    for name in ("DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "DejaVuSerif-Bold"):
        yield "serif, monospaced, italic, bold", _page(name, _ENGLISH, 22, name=name)
    for size in (16, 20, 24):
        yield "German, French, Spanish, Czech, Polish", _page(f"{size} px", _OTHERS, size)
    for size in (15, 18, 22):
        yield "two columns under a title", _page(f"{size} px", _ENGLISH, size, columns=2, title="Lease agreement")
    straight = _page("", _ENGLISH, 22)
    columns = _page("", _ENGLISH, 18, columns=2, title="Lease agreement")
    for degrees in (90, 180, 270):
        for source in (straight, columns):
            turned = source.picture.rotate(degrees, expand=True)
            yield "turned by 90, 180, 270 degrees", ScannedPage(f"{degrees}", turned, source.words)
    for tilt in (-1.5, 0.7, 2.0):
        yield (
            "tilted by up to 2 degrees",
            ScannedPage(f"{tilt}", scans.skewed(straight.picture, tilt), straight.words),
        )
    for strength in (12.0, 25.0, 40.0):
        yield "noise", ScannedPage(f"{strength}", scans.noisy(straight.picture, strength), straight.words)
    for size in (6, 8, 10):
        yield "very small, 6 to 10 px", _page(f"{size} px", _ENGLISH, size)
    for strength in (70.0, 100.0, 130.0):
        yield (
            "noise that hides letters",
            ScannedPage(f"{strength}", scans.noisy(straight.picture, strength), straight.words),
        )
    for radius in (2, 3, 4):
        yield "blurred by 2 to 4 px", ScannedPage(f"{radius}", scans.blurred(straight.picture, radius), straight.words)
    yield "table", _table(22)
    yield "table", _table(17)
    dark = scans.blank(colour="#202028")
    scans.draw(dark, scans.wrap(_ENGLISH.replace("\n\n", " "), 22, 1000), 110, 110, 22, fill="#e8e8e8")
    yield "light on dark", ScannedPage("dark", dark, _ENGLISH.split())


def _page(
    label: str, text: str, size: int, *, columns: int = 1, title: str = "", name: str = "DejaVuSans"
) -> ScannedPage:
    picture = scans.page(text, size, columns=columns, title=title, name=name)
    return ScannedPage(label, picture, f"{title} {text}".split())


def _table(size: int) -> ScannedPage:
    picture = scans.blank((1240, 700))
    for row, cells in enumerate(_ROWS):
        for column, cell in enumerate(cells):
            scans.draw(picture, [cell], 110 + column * 260, 100 + row * size * 2, size)
    return ScannedPage(f"{size} px", picture, " ".join(cell for row in _ROWS for cell in row).split())


def accuracy(words: list[str], text: str) -> float:
    """Return the share of words that a text has in the same order."""
    read = re.sub(r"[|]|\s-{3}\s", " ", text).split()
    blocks = SequenceMatcher(None, words, read, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(words)


def main() -> None:
    """Print the table."""
    reader = OcrPageReader(ExtractionOptions(ocr=True))
    results: dict[str, list[tuple[int, float, float]]] = {}
    for kind, page in pages():
        started = time.perf_counter()
        read = reader.read(page.picture)
        seconds = time.perf_counter() - started
        share = accuracy(page.words, read.text)
        results.setdefault(kind, []).append((len(page.words), share, seconds))
        unread = read.unread + read.foreign
        print(f"  {kind}: {page.name}: {share:.3f}, {seconds:.1f} s, {read.hard} hard lines, {unread} unread")
    print("| kind of page | pages | words | words read right | seconds a page |\n|---|---|---|---|---|")
    results["all"] = [row for rows in results.values() for row in rows]
    for kind, rows in results.items():
        words = sum(row[0] for row in rows)
        share = sum(row[0] * row[1] for row in rows) / words
        print(f"| {kind} | {len(rows)} | {words:,} | {share:.1%} | {sum(row[2] for row in rows) / len(rows):.1f} |")


if __name__ == "__main__":
    main()

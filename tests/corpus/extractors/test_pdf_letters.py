"""Letters of PDF pages: slanted, curved and turned lines, right-to-left ligatures, letters that are drawn twice."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.pdf import PdfExtractor
from nearfield.corpus.extractors.pdf.plausibility import damage
from nearfield.corpus.extractors.pdf.segments import PdfLetter, clean_text, in_logical_order
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.support.pdf_files import FONT, Canvas, drawn_pdf, one_page, raw_pdf, stream

LABELS = ("Sep 10", "Oct 10", "Nov 11", "March 2012")
#: Numbers of the words that are side by side.
SIDE = ("It", "is", "in", "this", "spirit", "that")


def extract(data: bytes) -> Document:
    return PdfExtractor().extract(data, "a.pdf")


def lines(document: Document) -> list[str]:
    return [line for line in document.text.split("\n") if line]


# -- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [15, 45, 60, -30, 100, 200])
def test_slanted_labels_are_whole(angle: int) -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 9)
        for number, label in enumerate(LABELS):
            canvas.saveState()
            canvas.translate(100 + 90 * number, 400)
            canvas.rotate(angle)
            canvas.drawString(0, 0, label)
            canvas.restoreState()

    document = extract(drawn_pdf(draw))
    assert sorted(re.split(r"\s{2,}|\n", document.text)) == sorted(LABELS)
    assert document.visible_words is not None
    assert document.visible_words <= count_words(" ".join(LABELS))


def test_parts_of_a_slanted_line_have_their_spaces() -> None:
    cosine, sine = math.cos(0.5), math.sin(0.5)
    moves = "".join(
        f"1 0 0 1 0 0 cm BT /F1 10 Tf {cosine:.4f} {sine:.4f} {-sine:.4f} {cosine:.4f} "
        f"{100 + distance * cosine:.3f} {300 + distance * sine:.3f} Tm ({part}) Tj ET\n"
        for part, distance in (("320", 0), ("25", 19.5), ("00", 33.5))
    )
    assert lines(extract(one_page(moves))) == ["320 25 00"]


@pytest.mark.parametrize("rise", [4, -4])
def test_curved_lines_are_whole(rise: int) -> None:
    place, parts = 100.0, []
    for number, letter in enumerate("Talbahn"):
        parts.append(f"BT /F1 10 Tf 1 0 0 1 {place:.2f} {400 + rise * number} Tm ({letter}) Tj ET")
        place += {"T": 6.11, "l": 2.22}.get(letter, 5.56)
    document = extract(one_page("\n".join(parts)))
    assert (document.text, document.visible_words) == ("Talbahn", 1)


def test_turned_words_side_by_side_are_apart() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(60, 500, "Layer 5")
        for number, word in enumerate(SIDE):
            canvas.saveState()
            canvas.translate(75 + 11 * number, 420)
            canvas.rotate(90)
            canvas.drawString(0, 0, word)
            canvas.restoreState()

    assert sorted(lines(extract(drawn_pdf(draw)))) == sorted((*SIDE, "Layer 5"))


def test_letters_far_below_each_other_are_lines() -> None:
    content = "BT /F1 12 Tf 100 700 Td (A) Tj 9 -60 Td (B) Tj 9 -60 Td (C) Tj ET"
    assert lines(extract(one_page(content))) == ["A", "B", "C"]


def test_a_footnote_mark_does_not_break_a_line() -> None:
    content = "BT /F1 10 Tf 100 700 Td (Ada Lovelace) Tj /F1 7 Tf 4 Ts (1) Tj /F1 10 Tf 0 Ts (, Alan Turing) Tj ET"
    assert lines(extract(one_page(content))) == ["Ada Lovelace1, Alan Turing"]


def test_fonts_of_the_file_have_their_own_unit() -> None:
    glyph = stream("100 0 0 0 60 100 d1 0 0 60 100 re f")
    names = "".join(f"/{letter} 6 0 R" for letter in "acdeht")
    font = (
        f"<</Type/Font/Subtype/Type3/FontBBox[0 0 60 100]/FontMatrix[1 0 0 1 0 0]/CharProcs<<{names}>>"
        f"/Encoding<</Type/Encoding/Differences[97/a 99/c/d/e 104/h 116/t]>>/FirstChar 97/LastChar 116"
        f"/Widths[{' '.join(['100'] * 20)}]>>"
    )
    content = "BT /F1 0.1 Tf 60 700 Td (the death) Tj ET"
    document = extract(one_page(content, annotations=[glyph], font=font.encode()))
    assert document.text.split() == ["the", "death"]
    assert len(lines(document)) == 1


def test_narrow_spaces_between_words() -> None:
    content = "BT /F1 50 Tf 20 700 Td [(PAR) 60 (TS) -150 (SOLUTION)] TJ ET"
    assert extract(one_page(content)).text == "PARTS SOLUTION"
    assert extract(one_page("BT /F1 50 Tf 5 Tc 20 700 Td (WIDE) Tj ET")).text == "WIDE"
    assert extract(one_page("BT /F1 10 Tf 20 700 Td [(A) 80 (V) 80 (AT) 70 (AR)] TJ ET")).text == "AVATAR"


# -- right to left ---------------------------------------------------------------------------------------------------


def mapped_font(characters: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the map of a font, from the letters in the file to characters, and the font."""
    codes = "\n".join(f"<{ord(code):02X}> <{text.encode('utf-16-be').hex()}>" for code, text in characters.items())
    table = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <FF> endcodespacerange\n{len(characters)} beginbfchar\n{codes}\nendbfchar\n"
        "endcmap end end"
    )
    return stream(table), FONT.replace(b">>", b"/ToUnicode 6 0 R>>")


def right_to_left(glyphs: Sequence[str]) -> bytes:
    """Return a page with glyphs from right to left; each has one or more characters."""
    characters = {chr(65 + number): glyph for number, glyph in enumerate(reversed(glyphs))}
    table, font = mapped_font(characters)
    content = f"BT /F1 12 Tf 60 700 Td ({''.join(characters)}) Tj ET"
    return one_page(content, annotations=[table], font=font)


@pytest.mark.parametrize(
    ("word", "glyphs"),
    [
        ("الإنتاجية", ["ا", "لإ", "ن", "ت", "ا", "ج", "ي", "ة"]),
        ("خلال", ["خ", "لا", "ل"]),
        ("المشكلات", ["ا", "ل", "م", "ش", "ك", "لا", "ت"]),
        ("קול", ["ק", "ו", "ל"]),
    ],
)
def test_ligatures_of_lam_and_alef_are_in_logical_order(word: str, glyphs: list[str]) -> None:
    assert extract(right_to_left(glyphs)).text == word


@pytest.mark.parametrize(
    ("glyphs", "step", "word"),
    [
        ("ةيفاضإ", 5, "إضافية"),
        ("إضافية", -5, "إضافية"),
        ("םולש", 5, "שלום"),
        (("ي", "لا", "غ"), 5, "غلاي"),
        ("1,284", 5, "1,284"),
        ("word", 5, "word"),
    ],
)
def test_words_in_the_order_of_the_eye_are_reversed(glyphs: Sequence[str], step: int, word: str) -> None:
    letters = [
        PdfLetter(at, letter, (step * at, step * at + 5.0, 0.0, 9.0))
        for at, glyph in enumerate(glyphs)
        for letter in glyph
    ]
    assert "".join(letter.text for letter in in_logical_order(letters)) == word


def test_forms_of_arabic_letters_are_their_letters() -> None:
    assert extract(right_to_left(["\ufeb3", "\ufefb", "\ufea1"])).text == "سلاح"


def test_a_latin_word_before_an_arabic_one_has_a_space() -> None:
    assert clean_text("و Pythonمن الأدوات") == "و Python من الأدوات"
    assert clean_text("וPython") == "וPython"


# -- letters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 13])
def test_letters_that_are_drawn_twice_count_once(size: int) -> None:
    def draw(canvas: Canvas) -> None:
        place = 100.0
        for letter in "guest":
            place += canvas.stringWidth(letter, "Helvetica", 12) / 2
            for font, height in (("Helvetica", 12), ("Helvetica-Oblique", size)):
                canvas.setFont(font, height)
                canvas.drawCentredString(place, 700, letter)
            place += canvas.stringWidth(letter, "Helvetica", 12) / 2

    assert extract(drawn_pdf(draw)).text == "guest"


@pytest.mark.parametrize("word", ["bookkeeper", "Llull", "1100", "ffffff", "llama iii"])
def test_double_letters_stay(word: str) -> None:
    assert extract(one_page(f"BT /F1 12 Tf 60 700 Td ({word}) Tj ET")).text == word


@pytest.mark.parametrize(
    ("seen", "read"), [("DurÈe", "Durée"), ("Allg‰u", "Allgäu"), ("École", "École"), ("5 ‰", "5 ‰"), ("Älter", "Älter")]
)
def test_accents_in_the_code_of_another_system(seen: str, read: str) -> None:
    assert clean_text(seen) == read


def test_soft_hyphens_that_are_drawn_are_hyphens() -> None:
    table, font = mapped_font({"#": "\u00ad"})
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (SS#2541#03#M) Tj ET", annotations=[table], font=font))
    assert document.text == "SS-2541-03-M"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Îãëàâëåíèå ñòð", "its letters form no words"),
        ("ǡǼǱǺ ǓǯǯǱǿǿ", "its letters form no words"),
        ("قويوووة وووخماة فوووا ياوووى العمل", "its letters form no words"),
        ("䋴䋮䋶糫 蒭鍍伴俘緌鍍伴俘u勢渡袱糫", "its letters form no words"),
        ("人人生而自由，在尊严和权利上一律平等。㐂", ""),
        ("żółć gęślą jaźń", ""),
        ("À bientôt, élève âgé, où êtes-vous né?", ""),
        ("هههه قال الولد", ""),
        ("• • • 12 °C ± 3 · x", ""),
    ],
)
def test_short_texts_in_another_code_look_damaged(text: str, expected: str) -> None:
    assert damage(text, len(text), 0) == expected


def test_short_pages_of_letters_without_characters_look_damaged() -> None:
    assert damage("a b", 9, 6) == "a font has no map of characters"
    assert damage("Chapter one •", 12, 1) == ""
    assert damage("!:.", 3, 0, doubtful=3) == "a font has no map of characters"
    assert damage("íú.", 3, 0, doubtful=3) == ""


def test_a_letter_without_a_character_is_a_word_that_is_not_read() -> None:
    table, font = mapped_font({"#": "駿", "$": "\ue687", "%": "姓"})
    content = "BT /F1 12 Tf 60 700 Td (%#$ is the company secretary) Tj ET"
    document = extract(one_page(content, annotations=[table], font=font))
    assert document.visible_words == 1 + count_words(document.text)
    symbol, font = mapped_font({"#": "\uf0d7"})
    content = "BT /F1 12 Tf 60 700 Td (the product of u#v) Tj ET"
    document = extract(one_page(content, annotations=[symbol], font=font))
    assert document.visible_words == 5


CHINESE = "关于环保科技股份有限公司年度报告中有关财务事项的说明以及公司的其他情况"
#: A Chinese font that is not embedded, in an encoding of which PDFium has no characters.
FOREIGN = (
    b"<</Type/Font/Subtype/Type0/BaseFont/SimSun-GBK-EUC-H/Encoding/GBK-EUC-H/DescendantFonts[<</Type/Font"
    b"/Subtype/CIDFontType2/BaseFont/SimSun/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>/DW 1000"
    b"/FontDescriptor<</Type/FontDescriptor/FontName/SimSun/Flags 6/FontBBox[0 -140 1000 860]/StemV 80"
    b"/ItalicAngle 0/Ascent 860/Descent -140/CapHeight 700>>>>]>>"
)


def foreign_page(*, picture: bool) -> bytes:
    """Return a page of Chinese and a few digits, with a picture of the page behind them or without."""
    texts = "\n".join(
        f"BT /F1 12 Tf {60 + 14 * number} 700 Td <{letter.encode('gbk').hex()}> Tj ET"
        for number, letter in enumerate(CHINESE)
    )
    digits = "BT /F2 12 Tf 60 500 Td (2016 306) Tj ET" if picture else ""
    image = stream("x", "/Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8")
    drawn = "q 595 0 0 842 0 0 cm /I1 Do Q" if picture else ""
    kids = "/Resources<</XObject<</I1 6 0 R>>/Font<</F1 5 0 R/F2 7 0 R>>>>"
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R{kids}>>".encode()
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page]
    return raw_pdf([*objects, stream(f"{drawn}\n{texts}\n{digits}"), FOREIGN, image, FONT])


def test_texts_without_characters_are_a_loss() -> None:
    reasons = [loss.reason for loss in extract(foreign_page(picture=True)).losses]
    assert "the text of 1 page, which looks damaged: a font has no map of characters" in reasons
    with pytest.raises(InputError, match=r"its text cannot be read: a font has no map of characters\. Consider OCR"):
        extract(foreign_page(picture=False))

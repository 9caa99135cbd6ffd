"""PDF files: forms, notes, columns, tables, headings, damage, scans and passwords."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.pdf import PdfExtractor
from nearfield.corpus.extractors.pdf.pages import PASSWORD_FILE, PASSWORDS, open_pdf, read_pages
from nearfield.corpus.extractors.pdf.plausibility import damage
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.support.pdf_files import FONT, Canvas, drawn_pdf, one_page, raw_pdf, scan, stream, text_page

PROSE = (
    "The harbour has many boats that leave in the morning for the islands of the north, and they come back in the "
    "evening when the wind is right. The fish is sold on the quay before the sun is down."
)


def extract(data: bytes) -> Document:
    return PdfExtractor().extract(data, "a.pdf")


def lines(document: Document) -> list[str]:
    return [line for line in document.text.split("\n") if line]


def headings(document: Document) -> list[tuple[int, str]]:
    return [(block.level, document.text[block.start : block.end]) for block in document.blocks if block.level]


def reasons(document: Document) -> list[tuple[str, tuple[int, ...]]]:
    return [(loss.reason, loss.pages) for loss in document.losses]


def wrapped(left: float, top: float, *texts: str, gap: float = 14) -> list[tuple[float, float, str]]:
    return [(left, top - gap * number, text) for number, text in enumerate(texts)]


# -- forms -----------------------------------------------------------------------------------------------------------


def application(canvas: Canvas) -> None:
    form = canvas.acroForm
    for top, label in ((760, "Name of the applicant:"), (730, "Country:"), (700, "Languages:"), (640, "Reason:")):
        canvas.drawString(60, top, label)
    form.textfield(value="Ada Lovelace", x=220, y=755, width=200, height=18, name="name")
    form.choice(value="Norway", options=["Sweden", "Norway"], x=220, y=725, width=100, height=18, name="country")
    form.listbox(value="Dutch", options=["Dutch", "Danish"], x=220, y=690, width=100, height=30, name="languages")
    form.textfield(value="", x=220, y=635, width=200, height=18, name="reason")
    canvas.drawString(80, 600, "I agree")
    canvas.drawString(80, 580, "Send me news")
    form.checkbox(checked=True, x=60, y=598, size=12, name="agree")
    form.checkbox(checked=False, x=60, y=578, size=12, name="news")


def test_values_of_forms_are_beside_their_labels() -> None:
    document = extract(drawn_pdf(application))
    assert lines(document) == [
        "Name of the applicant:  Ada Lovelace",
        "Country:  Norway",
        "Languages:  [x] Dutch",
        "[ ] Danish",
        "Reason:",
        "[x] I agree",
        "[ ] Send me news",
    ]
    assert document.visible_words is not None
    assert document.visible_words >= count_words("Name of the applicant: Ada Lovelace Country: Norway Dutch")


def test_options_of_a_radio_group() -> None:
    def draw(canvas: Canvas) -> None:
        for left, name in ((80, "monthly"), (200, "yearly")):
            canvas.drawString(left, 700, name)
            canvas.acroForm.radio(name="pays", value=name, selected=name == "yearly", x=left - 20, y=698, size=12)

    assert lines(extract(drawn_pdf(draw))) == ["[ ] monthly  [x] yearly"]


def test_a_value_that_the_file_does_not_draw() -> None:
    field = (
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(Grace Hopper)/DA(/F1 12 Tf 0 g)/F 4/Rect[200 690 400 710]"
        b"/P 3 0 R>>"
    )
    form = "/AcroForm<</Fields[6 0 R]/DR<</Font<</F1 5 0 R>>>>/DA(/F1 12 Tf 0 g)>>"
    document = extract(one_page("BT /F1 12 Tf 60 695 Td (Name:) Tj ET", annotations=[field], form=form))
    assert lines(document) == ["Name:  Grace Hopper"]


def test_several_lines_of_a_field_and_a_hidden_one() -> None:
    def field(name: str, value: str, flags: int, bottom: int) -> bytes:
        return (
            f"<</Type/Annot/Subtype/Widget/FT/Tx/Ff 4096/T({name})/V({value})/DA(/F1 12 Tf 0 g)/F {flags}"
            f"/Rect[200 {bottom} 400 {bottom + 60}]/P 3 0 R>>"
        ).encode()

    fields = [field("address", "Rope Walk 5\\nBristol", 4, 650), field("secret", "not shown", 2, 500)]
    form = "/AcroForm<</Fields[6 0 R 7 0 R]/DR<</Font<</F1 5 0 R>>>>/DA(/F1 12 Tf 0 g)>>"
    text = extract(one_page("BT /F1 12 Tf 60 690 Td (Address:) Tj ET", annotations=fields, form=form)).text
    assert text.split() == ["Address:", "Rope", "Walk", "5", "Bristol"]


def test_buttons_and_numbers_are_read_as_they_are_drawn() -> None:
    def drawing(text: str) -> bytes:
        font = "/Resources<</Font<</F1 5 0 R>>>>"
        content = f"/Tx BMC q BT /F1 12 Tf 2 4 Td ({text}) Tj ET Q EMC"
        return stream(content, f"/Type/XObject/Subtype/Form/BBox[0 0 200 20]{font}")

    common = "/Type/Annot/Subtype/Widget/DA(/F1 12 Tf 0 g)/F 4/P 3 0 R"
    fields = [
        f"<<{common}/FT/Tx/T(sum)/V(1200.5)/Rect[200 690 400 710]/AP<</N 8 0 R>>>>".encode(),
        f"<<{common}/FT/Btn/Ff 65536/T(send)/Rect[60 500 260 520]/AP<</N 9 0 R>>>>".encode(),
        drawing("1,200.50 EUR"),
        drawing("Send the form"),
    ]
    form = "/AcroForm<</Fields[6 0 R 7 0 R]/DR<</Font<</F1 5 0 R>>>>/DA(/F1 12 Tf 0 g)>>"
    document = extract(one_page("BT /F1 12 Tf 60 695 Td (Sum:) Tj ET", annotations=fields, form=form))
    assert lines(document) == ["Sum:  1,200.50 EUR", "Send the form"]
    assert document.visible_words == count_words(document.text)


def test_values_of_forms_are_no_headings() -> None:
    def draw(canvas: Canvas) -> None:
        text_page(*wrapped(60, 780, *LEFT))(canvas)
        canvas.setFont("Helvetica", 18)
        canvas.drawString(60, 700, "Name")
        canvas.acroForm.textfield(value="Ada Lovelace", x=220, y=695, width=200, height=24, name="name")

    assert headings(extract(drawn_pdf(draw))) == []


def test_dynamic_forms_have_their_texts_and_values() -> None:
    template = """<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><subform name="form1">
    <pageSet><draw><value><text>Page</text></value></draw></pageSet>
    <draw><value><text>Request for a ship</text></value></draw>
    <subform><field name="who"><caption><value><text>Captain:</text></value></caption></field>
    <field name="port"><caption><value><text>Port</text></value></caption><value><text>Bergen</text></value></field>
    <field name="none"><caption><value><text>Remarks</text></value></caption></field>
    <field name="x" presence="hidden"><value><text>never shown</text></value></field></subform></subform></template>"""
    values = """<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form1>
    <who>Grace Hopper</who><crew>twelve</crew></form1></xfa:data></xfa:datasets>"""
    form = "/NeedsRendering true/AcroForm<</Fields[]/XFA[(template) 6 0 R (datasets) 7 0 R]>>"
    content = "BT /F1 12 Tf 60 700 Td (Please wait.) Tj ET"
    document = extract(one_page(content, annotations=[stream(template), stream(values)], form=form))
    assert lines(document) == [
        "Please wait.",
        "Request for a ship",
        "Captain: Grace Hopper",
        "Port: Bergen",
        "Remarks",
        "crew: twelve",
    ]
    assert [loss.reason for loss in document.losses] == [
        "the pages of a dynamic form (XFA), of which texts and values are read"
    ]


# -- notes -----------------------------------------------------------------------------------------------------------


def note(kind: str, contents: str, bottom: int, extra: str = "") -> bytes:
    return (
        f"<</Type/Annot/Subtype/{kind}/Contents({contents})/Rect[60 {bottom} 260 {bottom + 12}]/F 4{extra}>>".encode()
    )


def test_notes_comments_and_typed_texts() -> None:
    marks = "/QuadPoints[60 712 260 712 60 700 260 700]/T(Lucas)"
    annotations = [
        note("Highlight", "Is this still true?", 700, marks),
        note("Text", "Ask the bank.", 600),
        note("FreeText", "Paid on 3 May", 500, "/DA(/F1 12 Tf)"),
        note("Text", "never shown", 400, "").replace(b"/F 4", b"/F 2"),
        note("Link", "not a note", 300),
    ]
    content = "BT /F1 12 Tf 60 700 Td (The rent is due.) Tj 0 -100 Td (The account is new.) Tj ET"
    document = extract(one_page(content, annotations=annotations))
    assert lines(document) == [
        "The rent is due.",
        "Note by Lucas: Is this still true?",
        "The account is new.",
        "Note: Ask the bank.",
        "Paid on 3 May",
    ]
    assert count_words(document.text) >= 0.95 * (document.visible_words or 0)


def test_stamps_have_the_text_of_their_drawing_or_their_name() -> None:
    drawing = b"/AP<</N 8 0 R>>"
    stamps = [
        b"<</Type/Annot/Subtype/Stamp/Rect[60 500 260 530]/F 4" + drawing + b">>",
        b"<</Type/Annot/Subtype/Stamp/Rect[60 400 260 430]/F 4/Name/NotApproved>>",
        stream(
            "BT /F1 12 Tf 2 6 Td (Received 4 June) Tj ET",
            "/Type/XObject/Subtype/Form/BBox[0 0 200 30]/Resources<</Font<</F1 5 0 R>>>>",
        ),
    ]
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (An invoice.) Tj ET", annotations=stamps))
    assert lines(document) == ["An invoice.", "Stamp: Received 4 June", "Stamp: Not Approved"]


@pytest.mark.parametrize("kind", ["Screen", "Sound", "Movie", "RichMedia", "Watermark"])
def test_drawings_of_media_have_their_text(kind: str) -> None:
    drawing = stream(
        "BT /F1 12 Tf 2 6 Td (PLAY THE FILM) Tj ET",
        "/Type/XObject/Subtype/Form/BBox[0 0 200 30]/Resources<</Font<</F1 5 0 R>>>>",
    )
    media = f"<</Type/Annot/Subtype/{kind}/Rect[60 500 260 530]/F 4/AP<</N 7 0 R>>>>".encode()
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (A lesson.) Tj ET", annotations=[media, drawing]))
    assert lines(document) == ["A lesson.", "PLAY THE FILM"]
    assert document.visible_words == 5


def test_letters_in_boxes_of_their_own_are_one_word() -> None:
    drawing = stream(
        "BT /F1 12 Tf 2 6 Td (1) Tj 50 0 Td (2) Tj 50 0 Td (A) Tj 50 0 Td (B) Tj ET",
        "/Type/XObject/Subtype/Form/BBox[0 0 200 30]/Resources<</Font<</F1 5 0 R>>>>",
    )
    field = (
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(code)/V(12AB)/Ff 16777216/MaxLen 4/Rect[160 695 360 715]/F 4"
        b"/DA(/F1 12 Tf)/AP<</N 7 0 R>>>>"
    )
    form = "/AcroForm<</Fields[6 0 R]/DR<</Font<</F1 5 0 R>>>>>>"
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (Code:) Tj ET", annotations=[field, drawing], form=form))
    assert document.text.split() == ["Code:", "12AB"]
    assert document.visible_words == 2


@pytest.mark.parametrize(
    ("drawn", "expected"), [("Bergen", "Oslo Bergen"), ("Osl", "Oslo"), ("Oslo (N)", "Oslo"), ("", "Oslo")]
)
def test_a_field_whose_drawing_is_older_has_both_texts(drawn: str, expected: str) -> None:
    drawing = stream(
        f"BT /F1 12 Tf 2 6 Td ({drawn}) Tj ET",
        "/Type/XObject/Subtype/Form/BBox[0 0 200 30]/Resources<</Font<</F1 5 0 R>>>>",
    )
    field = (
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(city)/V(Oslo)/Rect[160 695 360 715]/F 4/DA(/F1 12 Tf)/AP<</N 7 0 R>>>>"
    )
    form = "/AcroForm<</Fields[6 0 R]/DR<</Font<</F1 5 0 R>>>>>>"
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (City:) Tj ET", annotations=[field, drawing], form=form))
    assert document.text.split() == ["City:", *expected.split()]


# -- columns and tables ----------------------------------------------------------------------------------------------

LEFT = ("The harbour has many", "boats that leave in", "the morning for the", "islands of the north.")
RIGHT = ("The mountain has much", "snow that stays till", "the summer, and few", "people who climb it.")
MIDDLE = ("The forest is old and", "wide, so that nobody", "has counted the trees", "that grow in its parts.")


def test_two_columns_that_are_drawn_row_by_row() -> None:
    rows = [
        (left, 700 - 14 * number, text)
        for number in range(4)
        for left, text in ((60, LEFT[number]), (330, RIGHT[number]))
    ]
    title = (60, 740, "A title over both of the columns that are below it")
    document = extract(drawn_pdf(text_page(title, *rows, (60, 600, "A line below both columns that is as wide"))))
    text = " ".join(document.text.split())
    assert " ".join((*LEFT, *RIGHT)) in text
    assert text.startswith(title[2])
    assert text.endswith("as wide")


def test_three_columns_of_which_one_is_shorter() -> None:
    rows = [
        (left, 700 - 12 * number, texts[number])
        for number in range(4)
        for left, texts in ((40, LEFT), (230, MIDDLE), (420, RIGHT))
        if not (texts is MIDDLE and number == 3)
    ]
    text = " ".join(extract(drawn_pdf(text_page(*rows))).text.split())
    assert text == " ".join((*LEFT, *MIDDLE[:3], *RIGHT))


def test_columns_that_are_drawn_one_after_the_other() -> None:
    columns = [*wrapped(60, 700, *LEFT), *wrapped(330, 697, *RIGHT)]
    assert " ".join(extract(drawn_pdf(text_page(*columns))).text.split()) == " ".join((*LEFT, *RIGHT))


ROWS = (
    ("Fruit", "Price", "From"),
    ("Apple", "1.20", "Norway"),
    ("Pear", "1.85", "Italy"),
    ("Quince", "3.10", "Turkey"),
    ("Plum", "2.40", "Serbia"),
)
TABLE = [
    "| Fruit | Price | From |",
    "| --- | --- | --- |",
    *(f"| {name} | {price} | {country} |" for name, price, country in ROWS[1:]),
]


def cells(rows: tuple[tuple[str, ...], ...], pitch: float = 18) -> list[tuple[float, float, str]]:
    return [
        (60 + 150 * column, 700 - pitch * number, text)
        for number, row in enumerate(rows)
        for column, text in enumerate(row)
    ]


@pytest.mark.parametrize("order", ["rows", "columns", "none"])
def test_tables_without_rules(order: str) -> None:
    drawn = cells(ROWS)
    if order == "columns":
        drawn.sort(key=lambda cell: (cell[0], -cell[1]))
    if order == "none":
        random.Random(3).shuffle(drawn)
    document = extract(drawn_pdf(text_page(*drawn)))
    assert lines(document) == TABLE
    assert [block.kind for block in document.blocks] == ["table"]


def test_a_table_without_a_head_has_its_rows() -> None:
    document = extract(drawn_pdf(text_page(*cells(ROWS[1:]))))
    assert lines(document) == [" | ".join(row) for row in ROWS[1:]]


def test_cells_of_several_lines_and_empty_cells() -> None:
    drawn = [
        (60, 700, "Task"), (210, 700, "Who"), (360, 700, "Until"),
        (60, 680, "Paint the doors"), (60, 668, "of the kitchen"), (210, 680, "Ada"), (360, 680, "May"),
        (60, 648, "Repair the roof"), (60, 636, "before the rain"), (210, 648, "Ben"),
        (60, 616, "Cut the hedge"), (210, 616, "Cleo"), (360, 616, "July"),
    ]  # fmt: skip
    assert lines(extract(drawn_pdf(text_page(*drawn)))) == [
        "| Task | Who | Until |",
        "| --- | --- | --- |",
        "| Paint the doors of the kitchen | Ada | May |",
        "| Repair the roof before the rain | Ben |  |",
        "| Cut the hedge | Cleo | July |",
    ]


def test_entries_of_a_contents_page_keep_their_numbers() -> None:
    entries = [(60, 700 - 14 * at, f"{at} Chapter of {name} " + ". " * 30) for at, name in enumerate("ABCD", 1)]
    pages = [(400, 700 - 14 * at, str(at * 7)) for at in range(1, 5)]
    drawn = [part for pair in zip(entries, pages, strict=True) for part in pair]
    assert lines(extract(drawn_pdf(text_page(*drawn)))) == [
        f"{at} Chapter of {name} …  {at * 7}" for at, name in enumerate("ABCD", 1)
    ]


def test_lists_are_no_tables() -> None:
    drawn = [part for at, name in enumerate(LEFT) for part in ((60, 700 - 14 * at, "•"), (85, 700 - 14 * at, name))]
    document = extract(drawn_pdf(text_page(*drawn)))
    assert {block.kind for block in document.blocks} == {"paragraph"}
    assert "• The harbour has many" in document.text


def test_turned_pages() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.rotate(90)
        for left, bottom, text in cells(ROWS):
            canvas.drawString(left, bottom - 800, text)

    assert lines(extract(drawn_pdf(draw))) == TABLE


# -- headings --------------------------------------------------------------------------------------------------------


def styled(*parts: tuple[str, float, float, float, str]) -> bytes:
    """Return a PDF of lines: font, size, from the left, from below, text."""

    def draw(canvas: Canvas) -> None:
        for font, size, left, bottom, text in parts:
            canvas.setFont(font, size)
            canvas.drawString(left, bottom, text)

    return drawn_pdf(draw)


BODY = ("The harbour has many boats that leave in the morning for the islands of the", "north, and come back late.")


def body(top: float) -> list[tuple[str, float, float, float, str]]:
    return [("Helvetica", 10, 60, top - 12 * number, text) for number, text in enumerate(BODY)]


def test_bold_lines_of_the_size_of_the_text_are_headings() -> None:
    document = extract(
        styled(
            ("Helvetica-Bold", 16, 60, 780, "Report"),
            *body(750),
            ("Helvetica-Bold", 10, 60, 714, "Fishing in winter"),
            *body(702),
            ("Helvetica-Bold", 10, 60, 666, "Fishing in summer"),
            *body(654),
        )
    )
    assert headings(document) == [(1, "Report"), (2, "Fishing in winter"), (2, "Fishing in summer")]


def test_bold_words_in_a_paragraph_are_no_headings() -> None:
    document = extract(
        styled(
            *body(750),
            ("Helvetica-Bold", 10, 60, 714, "Attention:"),
            ("Helvetica", 10, 115, 714, "the boats do not wait for anyone who is late."),
            *body(690),
            ("Helvetica-Bold", 10, 60, 654, "Table 3: boats and their captains"),
            ("Helvetica-Bold", 10, 60, 630, "This sentence in bold is important, and ends as one."),
        )
    )
    assert headings(document) == []


def test_texts_that_are_all_bold_have_no_bold_headings() -> None:
    parts = [("Helvetica-Bold", 10, 60, 750 - 30 * number, f"Notice {number} of many") for number in range(8)]
    assert headings(extract(styled(*parts))) == []


def test_titles_over_two_lines() -> None:
    document = extract(
        styled(
            ("Times-Bold", 22, 90, 780, "The boats of the harbour"),
            ("Times-Bold", 22, 130, 752, "and of the islands"),
            *body(710),
            ("Helvetica-Bold", 10, 60, 670, "How the boats and their captains were counted in the three winters of"),
            ("Helvetica-Bold", 10, 60, 658, "the survey"),
            *body(640),
        )
    )
    assert headings(document) == [
        (1, "The boats of the harbour and of the islands"),
        (2, "How the boats and their captains were counted in the three winters of the survey"),
    ]
    assert document.title == "The boats of the harbour and of the islands"


@pytest.mark.parametrize("formula", ["E = mc + x", "f(x) = 3x - 2", "x < y", "(7)", "a + b = c, where a > 0"])
def test_formulas_are_no_headings(formula: str) -> None:
    document = extract(styled(*body(750), ("Times-Italic", 14, 200, 700, formula), *body(660)))
    assert headings(document) == []
    assert formula in document.text


@pytest.mark.parametrize(
    "names",
    [
        "Ada Lovelace, Charles Babbage and Mary Somerville",
        "Grace M. Hopper; Alan Turing",
        "ada@example.org",
        "Émilie du Châtelet · Sophie Germain",
    ],
)
def test_authors_are_no_headings(names: str) -> None:
    document = extract(
        styled(
            ("Times-Bold", 20, 60, 780, "On the Motion of Boats"),
            ("Times-Roman", 13, 60, 750, names),
            ("Times-Roman", 13, 60, 725, "3 March 2021"),
            ("Times-Bold", 13, 60, 690, "Introduction"),
            *body(660),
        )
    )
    assert headings(document) == [(1, "On the Motion of Boats"), (2, "Introduction")]
    assert names in document.text


# -- damage ----------------------------------------------------------------------------------------------------------


def pages_with(missing: int, count: int = 4) -> bytes:
    """Return a PDF of pages of which one is not in the file."""
    kids = [3 + 2 * number if number != missing else 99 for number in range(count)]
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]/Count {count}>>".encode(),
    ]
    for number in range(count):
        content = f"{4 + 2 * number} 0 R"
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {content}"
            "/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>".encode()
        )
        objects.append(stream(f"BT /F1 12 Tf 60 700 Td (The text of page {number + 1}.) Tj ET"))
    return raw_pdf(objects)


@pytest.mark.parametrize("missing", [0, 2, 3])
def test_a_damaged_page_is_a_loss_and_the_others_are_read(missing: int) -> None:
    document = extract(pages_with(missing))
    good = [number for number in range(1, 5) if number != missing + 1]
    assert lines(document) == [f"The text of page {number}." for number in good]
    assert [block.page for block in document.blocks] == good
    assert reasons(document) == [("1 page that is damaged", (missing + 1,))]
    assert document.losses[0].advice.endswith(".")


def test_a_file_without_a_good_page() -> None:
    data = raw_pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[98 0 R 99 0 R]/Count 2>>"])
    with pytest.raises(InputError, match=r"^a\.pdf: damaged: none of its 2 pages can be read\.$"):
        extract(data)


@pytest.mark.parametrize("data", [b"%PDF-1.7 nothing", b"%PDF-1.7\n1 0 obj\n<<", b"no PDF at all"])
def test_reasons_are_sentences(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^a\.pdf: damaged, or not a PDF file\.$"):
        extract(data)


def mapped_font(*codes: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return a font whose letters are mapped to characters in UTF-16, and its map as the first annotation's object."""
    lines_ = "\n".join(f"<{ord(letter):02X}> <{value}>" for letter, value in codes)
    table = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <FF> endcodespacerange\n{len(codes)} beginbfchar\n{lines_}\nendbfchar\n"
        "endcmap end end"
    )
    return FONT.replace(b">>", b"/ToUnicode 6 0 R>>"), stream(table)


@pytest.mark.parametrize("code", ["D800", "DC00", "0000", "0003", "FFFE", "FFFF", "000B"])
def test_an_odd_character_costs_nothing_else(code: str) -> None:
    font, table = mapped_font(("#", code))
    content = "BT /F1 12 Tf 60 700 Td (The first sentence is good.) Tj 0 -20 Td (odd # letter) Tj ET"
    document = extract(one_page(content, annotations=[table], font=font))
    assert "The first sentence is good." in document.text
    assert "odd" in document.text
    assert "letter" in document.text
    document.text.encode()


@pytest.mark.parametrize("title", ["<FEFFD800>", "<FEFF0041D8>", "(\\377\\376\\000)"])
def test_unreadable_metadata_costs_nothing_else(title: str) -> None:
    info = f"<</Title {title}/Author(Ada)>>".encode()
    data = one_page("BT /F1 12 Tf 60 700 Td (The text is good.) Tj ET", annotations=[info])
    document = extract(data.replace(b"trailer<<", b"trailer<</Info 6 0 R"))
    assert (document.text, document.meta) == ("The text is good.", {"author": "Ada"})


def test_letters_without_characters_look_damaged() -> None:
    font, table = mapped_font(*((letter, f"E0{ord(letter):02X}") for letter in "abcdefghijklmnopqrstuvwxyz"))
    content = f"BT /F1 8 Tf 30 700 Td ({PROSE}) Tj ET"
    (loss,) = extract(one_page(content, annotations=[table], font=font)).losses
    assert loss.reason == "the text of 1 page, which looks damaged: a font has no map of characters"
    assert loss.pages == (1,)
    assert "OCR" in loss.advice


@pytest.mark.parametrize("shift", [-29, 3, 5])
def test_letters_of_another_code_look_damaged(shift: int) -> None:
    coded = "".join(letter if letter == " " else chr(ord(letter) + shift) for letter in 2 * PROSE)
    assert damage(coded, len(coded), 0) == "its letters form no words"


def test_lost_ligatures_and_spaces_look_damaged() -> None:
    lost = "The o ce is e cient and speci c, but its de nition is di erent; the signi cant bene t is a pro t."
    assert damage(lost, len(lost), 0) == "its ligatures are lost"
    joined = PROSE.replace(" ", "")
    assert damage(f"{joined} {joined} {joined}", 3 * len(joined), 0) == "its spaces are lost"


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem.",
        "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki.",
        "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel bírván.",
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. Mọi con người đều được.",
        "Genir pawb yn rhydd ac yn gydradd â'i gilydd mewn urddas a hawliau. Fe'u cynysgaeddir â rheswm a chydwybod.",
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.",
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
        "ISBN 978-3-16, PO-7731-XK, QTY 12, SKU BZ-99-KLM, EUR 7.20, ref. 88-KZ/20, lot WXK-3",
    ],
)
def test_texts_of_many_languages_are_plausible(text: str) -> None:
    assert damage(" ".join([text] * 3), 3 * len(text), 0) == ""


def test_guessed_characters_are_no_damage_if_they_form_words() -> None:
    text = 2 * PROSE
    assert damage(text, len(text), 0, doubtful=len(text)) == ""
    assert damage("\u03f2\u0392" * 20, 40, 0, doubtful=30) == "a font has no map of characters"


@pytest.mark.parametrize("letter", ["𝑝", "𠮷", "😀"])
def test_characters_of_two_halves(letter: str) -> None:
    font, table = mapped_font(("#", letter.encode("utf-16-be").hex()))
    document = extract(one_page("BT /F1 12 Tf 60 700 Td (The letter # is one.) Tj ET", annotations=[table], font=font))
    assert document.text == f"The letter {letter} is one."


def test_widely_set_chinese_has_no_spaces() -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    spaced = " ".join("人人生而自由在尊严和权利上一律平等")
    document = extract(drawn_pdf(text_page((60, 700, spaced), font="STSong-Light")))
    assert document.text == spaced.replace(" ", "")


# -- scans -----------------------------------------------------------------------------------------------------------


def test_scanned_pages_are_losses_and_empty_pages_are_not() -> None:
    page = text_page(*wrapped(60, 700, *LEFT))
    data = drawn_pdf(page, scan, lambda canvas: None, scan, page)
    document = extract(data)
    assert [block.page for block in document.blocks] == [1, 5]
    (loss,) = document.losses
    assert (loss.reason, loss.pages) == ("2 pages without text", (2, 4))
    assert "nearfield[ocr]" in loss.advice
    with open_pdf(data, "a.pdf") as file:
        assert [page.number for page in read_pages(file) if page.needs_ocr] == [2, 4]


def test_scans_with_a_stamped_line_are_losses_too() -> None:
    def stamped(canvas: Canvas) -> None:
        scan(canvas)
        canvas.drawString(60, 20, "Scanned by an app")

    document = extract(drawn_pdf(stamped, text_page(*wrapped(60, 700, *LEFT))))
    assert reasons(document) == [("1 page with a picture and few words", (1,))]
    assert "Scanned by an app" in document.text


def test_letters_that_are_drawn_as_shapes_are_losses() -> None:
    def outlines(canvas: Canvas) -> None:
        for number in range(60):
            canvas.rect(60 + 5 * number, 700, 3, 9, fill=1)

    document = extract(drawn_pdf(outlines, text_page(*wrapped(60, 700, *LEFT))))
    assert reasons(document) == [("1 page without text", (1,))]


def test_a_file_of_scans_only_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no text layer, only pictures of pages\. They need OCR: install"):
        extract(drawn_pdf(scan, scan))


def test_attached_files_are_a_loss() -> None:
    objects = (
        "/Names<</EmbeddedFiles<</Names[(a.txt) 6 0 R]>>>>",
        b"<</Type/Filespec/F(a.txt)/EF<</F 7 0 R>>>>",
        stream("hello", "/Type/EmbeddedFile"),
    )
    data = one_page("BT /F1 12 Tf 60 700 Td (See the file.) Tj ET", annotations=objects[1:], form=objects[0])
    assert reasons(extract(data)) == [("1 attached file", ())]


# -- passwords -------------------------------------------------------------------------------------------------------


def locked(password: str) -> bytes:
    return drawn_pdf(text_page(*wrapped(60, 700, *LEFT)), encrypt=password)


def test_passwords_of_the_environment_are_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = locked("sésame 7")
    with pytest.raises(InputError, match=f"encrypted with a password. Save it without one, or set {PASSWORDS}"):
        extract(data)
    monkeypatch.setenv(PASSWORDS, "first,second")
    with pytest.raises(InputError, match=r"2 passwords were tried\."):
        extract(data)
    monkeypatch.setenv(PASSWORDS, "first,sésame 7")
    assert "boats that leave in" in extract(data).text
    monkeypatch.delenv(PASSWORDS)
    (tmp_path / "passwords").write_text("with, comma\nsésame 7\n", encoding="utf-8")
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "passwords"))
    assert "boats that leave in" in extract(data).text
    assert "boats that leave in" in extract(locked("with, comma")).text


def test_a_missing_file_of_passwords_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "none"))
    with pytest.raises(InputError, match=f"{PASSWORD_FILE}: .*none cannot be read"):
        extract(locked("x"))


# -- words -----------------------------------------------------------------------------------------------------------


def test_visible_words_are_those_of_the_page() -> None:
    document = extract(drawn_pdf(text_page(*wrapped(60, 700, *LEFT)), text_page(*wrapped(60, 700, *RIGHT))))
    assert document.visible_words == count_words(" ".join((*LEFT, *RIGHT))) == count_words(document.text)


def test_broken_words_and_overprinted_lines_count_once() -> None:
    twice = [(60, 600, "A line with a shadow"), (60.5, 599.5, "A line with a shadow")]
    document = extract(drawn_pdf(text_page(*wrapped(60, 700, "We have seen an exam-", "ple of it."), *twice)))
    assert " ".join(document.text.split()) == "We have seen an example of it. A line with a shadow"
    assert document.visible_words == count_words(document.text)

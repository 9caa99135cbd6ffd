"""Word documents: everything that a reader sees is in the text, in its place."""

from __future__ import annotations

import io
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.docx import DocxExtractor
from nearfield.corpus.word_count import count_words
from tests.support import sample_documents
from tests.support.office_packages import paragraph, word


def read(data: bytes) -> Document:
    return DocxExtractor().extract(data, "a.docx")


def pieces(data: bytes) -> list[tuple[str, str]]:
    document = read(data)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def numbered(*levels: tuple[str, str]) -> str:
    """Return a numbering part with one list of these levels: form and text."""
    inner = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, (form, text) in enumerate(levels)
    )
    nums = "".join(f'<w:num w:numId="{n}"><w:abstractNumId w:val="0"/></w:num>' for n in (1, 2))
    restarted = (
        '<w:num w:numId="3"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/>'
        "</w:lvlOverride></w:num>"
    )
    return f'<w:numbering NS><w:abstractNum w:abstractNumId="0">{inner}</w:abstractNum>{nums}{restarted}</w:numbering>'


def item(text: str, level: int, number: int = 1) -> str:
    return paragraph(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def test_numbers_of_clauses_are_computed() -> None:
    numbering = numbered(("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)"), ("lowerRoman", "(%4)"))
    body = item("Term", 0) + item("Start", 1) + item("Notice", 1) + item("by letter", 2) + item("by mail", 2)
    body += item("signed", 3) + item("Fees", 0) + item("Due", 1) + item("monthly", 2)
    assert pieces(word(body, {"numbering": numbering}))[0][1].split("\n") == [
        "1. Term",
        "  1.1 Start",
        "  1.2 Notice",
        "    1.2(a) by letter",
        "    1.2(b) by mail",
        "      1.2(b)(i) signed",
        "2. Fees",
        "  2.1 Due",
        "    2.1(a) monthly",
    ]


@pytest.mark.parametrize(
    ("levels", "labels"),
    [
        ([("upperRoman", "%1."), ("upperLetter", "%2)")], ["I.", "A)", "B)", "II.", "A)"]),
        ([("decimal", "Article %1"), ("decimal", "Section %1.%2")], [
            "Article 1", "Section 1.1", "Section 1.2", "Article 2", "Section 2.1"]),
        ([("bullet", "o"), ("bullet", "x")], ["-", "-", "-", "-", "-"]),
        ([("decimalZero", "%1"), ("ordinal", "%2")], ["01", "1st", "2nd", "02", "1st"]),
    ],
)  # fmt: skip
def test_forms_of_numbers(levels: list[tuple[str, str]], labels: list[str]) -> None:
    body = item("a", 0) + item("b", 1) + item("c", 1) + item("d", 0) + item("e", 1)
    lines = pieces(word(body, {"numbering": numbered(*levels)}))[0][1].split("\n")
    assert [line.strip().rsplit(" ", 1)[0] for line in lines] == labels


def test_lists_continue_over_text_and_restart_where_the_file_says_so() -> None:
    body = item("a", 0) + paragraph("between") + item("b", 0, 2) + item("c", 0, 3) + item("none", 0, 0)
    found = pieces(word(body, {"numbering": numbered(("decimal", "%1."))}))
    assert found == [("list", "1. a"), ("paragraph", "between"), ("list", "2. b\n1. c"), ("paragraph", "none")]


def test_numbers_of_headings_come_from_their_styles() -> None:
    styles = "".join(
        f'<w:style w:styleId="U{at}"><w:name w:val="heading {at}"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr>'
        "</w:pPr></w:style>"
        for at in (1, 2)
    )
    numbering = numbered(("decimal", "%1"), ("decimal", "%1.%2"))
    for at in (0, 1):
        numbering = numbering.replace(f'<w:lvl w:ilvl="{at}">', f'<w:lvl w:ilvl="{at}"><w:pStyle w:val="U{at + 1}"/>')
    body = "".join(paragraph(t, f'<w:pStyle w:val="U{n}"/>') for t, n in (("A", 1), ("B", 2), ("C", 2), ("D", 1)))
    data = word(body, {"numbering": numbering, "styles": f"<w:styles NS>{styles}</w:styles>"})
    assert pieces(data) == [("heading", "1 A"), ("heading", "1.1 B"), ("heading", "1.2 C"), ("heading", "2 D")]


def test_notes_and_comments_follow_their_paragraph() -> None:
    run = '<w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:commentReference w:id="0"/></w:r>'
    body = f"<w:p><w:r><w:t>Price</w:t></w:r>{run}</w:p>" + paragraph("After")
    body += '<w:p><w:r><w:t>End</w:t></w:r><w:r><w:endnoteReference w:id="1"/></w:r></w:p>'
    parts = {
        "footnotes": '<w:footnotes NS><w:footnote w:type="separator" w:id="0"/><w:footnote w:id="2">'
        + paragraph("Without tax.")
        + "</w:footnote></w:footnotes>",
        "endnotes": f'<w:endnotes NS><w:endnote w:id="1">{paragraph("See annex.")}</w:endnote></w:endnotes>',
        "comments": '<w:comments NS><w:comment w:id="0" w:author="Ann">'
        + paragraph("Too low?")
        + "</w:comment></w:comments>",
    }
    data = word(body, parts)
    assert [text for _, text in pieces(data)] == [
        "Price", "Footnote 1: Without tax.", "Comment by Ann: Too low?", "After", "End", "Endnote 1: See annex.",
    ]  # fmt: skip
    assert read(data).visible_words == 9


def test_headers_come_first_and_footers_last_once() -> None:
    section = (
        '<w:sectPr><w:headerReference w:type="default" r:id="h1"/><w:headerReference w:type="first" r:id="h2"/>'
        '<w:footerReference w:type="default" r:id="f1"/></w:sectPr>'
    )
    body = paragraph("First", section) + paragraph("Second") + section
    page = "<w:p><w:r><w:t>Page </w:t></w:r><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:t>3</w:t></w:r></w:p>"
    parts = {
        "header:h1": f"<w:hdr NS>{paragraph('Example Ltd, confidential')}</w:hdr>",
        "header:h2": f"<w:hdr NS>{paragraph('Not shown')}</w:hdr>",
        "footer:f1": f"<w:ftr NS>{paragraph('Bank account 12345')}{page}</w:ftr>",
    }
    data = word(body, parts)
    assert [text for _, text in pieces(data)] == ["Example Ltd, confidential", "First", "Second", "Bank account 12345"]
    assert read(data).visible_words == count_words(read(data).text)
    shown = word(body.replace("<w:sectPr>", "<w:sectPr><w:titlePg/>"), parts)
    assert "Not shown" in read(shown).text


def test_boxes_are_paragraphs_and_are_read_once() -> None:
    box = f"<w:txbxContent>{paragraph('In the box')}</w:txbxContent>"
    drawing = (
        "<mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wp:inline><a:graphic><a:graphicData><wps:wsp>"
        f"<wps:txbx>{box}</wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:inline></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>"
    )
    old = f"<w:pict><v:shape><v:textbox>{box.replace('the', 'an old')}</v:textbox></v:shape></w:pict>"
    data = word(f"<w:p><w:r><w:t>Be</w:t></w:r><w:r>{drawing}{old}</w:r><w:r><w:t>fore</w:t></w:r></w:p>")
    assert [text for _, text in pieces(data)] == ["Before", "In the box", "In an old box"]


def test_pictures_have_their_descriptions_and_others_are_stated() -> None:
    picture = "<w:drawing><wp:inline><wp:docPr {}/><a:graphic><pic:pic><a:blip/></pic:pic></a:graphic></wp:inline>"
    picture += "</w:drawing>"
    described = picture.format('id="1" descr="A red bridge&#10;at night"')
    body = f"<w:p><w:r><w:t>See</w:t>{described}</w:r></w:p><w:p><w:r>{picture.format('')}</w:r></w:p>"
    document = read(word(body + "<w:p><w:r><w:object><o:OLEObject ProgID='Excel.Sheet'/></w:object></w:r></w:p>"))
    assert document.text == "See\n\nPicture: A red bridge at night"
    assert [loss.reason for loss in document.losses] == ["1 picture without a description", "1 embedded object"]


CHART = (
    "<c:chartSpace NS><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    "<c:plotArea>{}</c:plotArea></c:chart></c:chartSpace>"
)


def series(name: str, values: list[float], code: str = "General") -> str:
    def cache(texts: list[Any]) -> str:
        return "".join(f'<c:pt idx="{at}"><c:v>{text}</c:v></c:pt>' for at, text in enumerate(texts))

    return (
        f"<c:ser><c:tx><c:strRef><c:strCache>{cache([name])}</c:strCache></c:strRef></c:tx>"
        f"<c:cat><c:strRef><c:strCache>{cache(['North', 'South'])}</c:strCache></c:strRef></c:cat>"
        f"<c:val><c:numRef><c:numCache><c:formatCode>{code}</c:formatCode>{cache(values)}</c:numCache></c:numRef></c:val>"
        "</c:ser>"
    )


def test_charts_have_their_data() -> None:
    chart = CHART.format(series("2024", [1200, 30.5], "#,##0.0") + series("Share", [0.125, 0.5], "0.0%"))
    body = '<w:p><w:r><w:drawing><a:graphic><c:chart r:id="c1"/></a:graphic></w:drawing></w:r></w:p>'
    assert pieces(word(body, {"chart:c1": chart})) == [
        ("paragraph", "Sales"),
        ("table", "|  | 2024 | Share |\n| --- | --- | --- |\n| North | 1,200.0 | 12.5% |\n| South | 30.5 | 50.0% |"),
    ]


def test_diagrams_have_their_texts_in_the_order_of_their_tree() -> None:
    def point(identity: str, text: str, kind: str = "node") -> str:
        body = f"<dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t>" if text else ""
        return f'<dgm:pt modelId="{identity}" type="{kind}">{body}</dgm:pt>'

    points = point("3", "Second") + point("1", "", "doc") + point("2", "First") + point("4", "Below the first")
    points += point("9", "", "pres")
    links = "".join(
        f'<dgm:cxn srcId="{source}" destId="{target}" srcOrd="{order}"/>'
        for source, target, order in (("1", "3", 1), ("1", "2", 0), ("2", "4", 0))
    )
    data = f"<dgm:dataModel NS><dgm:ptLst>{points}</dgm:ptLst><dgm:cxnLst>{links}</dgm:cxnLst></dgm:dataModel>"
    body = '<w:p><w:r><w:drawing><a:graphic><dgm:relIds r:dm="d1"/></a:graphic></w:drawing></w:r></w:p>'
    assert pieces(word(body, {"diagramData:d1": data})) == [("list", "- First\n  - Below the first\n- Second")]


@pytest.mark.parametrize(
    ("math", "expected"),
    [
        ("<m:f><m:num>{a}</m:num><m:den>{b}</m:den></m:f>", "$\\frac{a}{b}$"),
        ("<m:sSup><m:e>{a}</m:e><m:sup>{b}</m:sup></m:sSup>", "$a^b$"),
        ("<m:sSub><m:e>{a}</m:e><m:sub>{a}{b}</m:sub></m:sSub>", "$a_{ab}$"),
        ("<m:rad><m:radPr><m:degHide/></m:radPr><m:deg/><m:e>{a}</m:e></m:rad>", "$\\sqrt{a}$"),
        (
            "<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{a}</m:sub><m:sup>{b}</m:sup><m:e/></m:nary>",
            "$\\sum_a^b$",
        ),
        ("<m:d><m:e><m:f><m:num>{a}</m:num><m:den>{b}</m:den></m:f></m:e></m:d>", "$\\left(\\frac{a}{b}\\right)$"),
        ("<m:func><m:fName><m:r><m:t>sin</m:t></m:r></m:fName><m:e>{a}</m:e></m:func>", "$\\sin a$"),
        ("<m:m><m:mr><m:e>{a}</m:e><m:e>{b}</m:e></m:mr></m:m>", "$\\begin{matrix}a & b\\end{matrix}$"),
    ],
)
def test_equations_keep_their_structure(math: str, expected: str) -> None:
    letters = {name: f"<m:r><m:rPr/><m:t>{name}</m:t></m:r>" for name in "ab"}
    for name, run in letters.items():
        math = math.replace("{" + name + "}", run)
    assert read(word(f"<w:p><m:oMathPara><m:oMath>{math}</m:oMath></m:oMathPara></w:p>")).text == expected


def test_the_strict_form_is_read_like_the_other() -> None:
    parts = {"numbering": numbered(("decimal", "%1."))}
    body = item("a", 0) + paragraph("text")
    assert (
        pieces(word(body, parts, strict=True)) == pieces(word(body, parts)) == [("list", "1. a"), ("paragraph", "text")]
    )


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text) if text else '<w:p/>'}</w:tc>"


def table(*rows: str) -> str:
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"


SPAN2, SPAN3 = '<w:gridSpan w:val="2"/>', '<w:gridSpan w:val="3"/>'
BEGIN, GO_ON = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [cell("Name") + cell("Plan") + cell("Actual"), cell("No plan for Ada", SPAN2) + cell("55")],
            "| Name | Plan | Actual |\n| --- | --- | --- |\n| No plan for Ada |  | 55 |",
        ),
        (
            [cell("Kind") + cell("Name"), cell("Fruit", BEGIN) + cell("Apple"), cell("", GO_ON) + cell("Pear")],
            "| Kind | Name |\n| --- | --- |\n| Fruit | Apple |\n| Fruit | Pear |",
        ),
        (
            [
                cell("Item", BEGIN) + cell("2023", SPAN2),
                cell("", GO_ON) + cell("Q1") + cell("Q2"),
                cell("Tea") + cell("1") + cell("2"),
            ],
            "| Item | 2023 Q1 | 2023 Q2 |\n| --- | --- | --- |\n| Tea | 1 | 2 |",
        ),
        (
            ['<w:trPr><w:gridBefore w:val="1"/></w:trPr>' + cell("b"), cell("1") + cell("2")],
            "|  | b |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            [cell("a") + cell("b"), "<w:trPr><w:del/></w:trPr>" + cell("old") + cell("x"), cell("1") + cell("2")],
            "| a | b |\n| --- | --- |\n| 1 | 2 |",
        ),
    ],
)  # fmt: skip
def test_merged_cells_keep_their_columns(rows: list[str], expected: str) -> None:
    assert pieces(word(table(*rows))) == [("table", expected)]


def test_a_row_over_the_whole_width_is_a_title() -> None:
    data = word(
        table(cell("Fees of 2024", SPAN3), cell("a") + cell("b") + cell("c"), cell("1") + cell("2") + cell("3"))
    )
    assert [kind for kind, _ in pieces(data)] == ["paragraph", "table"]
    assert pieces(data)[1][1].startswith("| a | b | c |")


def test_changes_symbols_and_fields() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    moved = f"<w:moveFrom>{run.format('old place')}</w:moveFrom><w:moveTo>{run.format('new place')}</w:moveTo>"
    box = '<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r><w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>'
    form = (
        '<w:r><w:fldChar><w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
        "</w:ddList></w:ffData></w:fldChar></w:r>"
    )
    text = read(word(f"<w:p>{moved}{box}{form}</w:p>")).text
    assert text == "new place☑αblue"


def test_a_damaged_part_costs_that_part_only() -> None:
    body = '<w:p><w:r><w:t>Text</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    document = read(word(body, {"footnotes": "<w:footnotes NS><broken"}))
    assert document.text == "Text"
    assert document.losses[0].reason == "1 damaged part of the file (word/footnotes.xml)"


def test_words_are_counted_by_the_text_nodes() -> None:
    def write(file: Any) -> None:
        file.add_heading("A title", 0)
        file.add_paragraph("Four words in it").add_run("side by side")
        grid = file.add_table(2, 2)
        grid.cell(0, 0).text, grid.cell(1, 1).text = "head", "last cell"

    document = read(sample_documents.docx(write))
    assert document.visible_words == count_words(document.text)
    assert not document.losses and io.BytesIO(document.text.encode()).read()

"""Text formats with markup: what a reader sees is in the text, with its structure, and markup is not."""

from __future__ import annotations

import json

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY, kind_of
from nearfield.corpus.extractors.reader import DocumentReader


def extract(name: str, text: str | bytes) -> Document:
    kind = kind_of(name)
    assert kind is not None
    document: Document = REGISTRY.load(kind)().extract(text.encode() if isinstance(text, str) else text, name)
    at = 0
    for block in document.blocks:
        part = document.text[block.start : block.end]
        assert at <= block.start < block.end and part.strip() and part == part.rstrip()
        at = block.end
    return document


def blocks(name: str, text: str) -> list[tuple[str, str]]:
    document = extract(name, text)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Top\n===\n\nA\n-\n\nText.", [("heading", "Top"), ("heading", "A"), ("paragraph", "Text.")]),
        (
            "=====\n Top\n=====\n\nSub\n===\n\n-----\n\nText",
            [("heading", "Top"), ("heading", "Sub"), ("paragraph", "Text")],
        ),
        (
            (
                ".. _label:\n\n.. note::\n\n   Take care.\n\n.. warning:: Very\n   hot.\n\n.. a commen"
                "t\n   of two lines\n\nEnd."
            ),
            [("paragraph", "Take care."), ("paragraph", "Very"), ("paragraph", "hot."), ("paragraph", "End.")],
        ),
        (
            ".. code-block:: python\n   :linenos:\n\n   x = 1\n\nAs here::\n\n  y = 2\n",
            [("code", "```python\nx = 1\n```"), ("paragraph", "As here:"), ("code", "```\ny = 2\n```")],
        ),
        (
            (
                "See :ref:`the guide <guide>`, :class:`~a.b.Name`, `site <http://x.y>`_, ``code_`` and |v| [#n]_.\n\n"
                ".. |v| replace:: 2.0\n.. [#n] A note."
            ),
            [("paragraph", "See the guide, Name, site, `code_` and 2.0 [n]."), ("paragraph", "[n] A note.")],
        ),
        (
            "* one\n\n  more\n* two\n\n  * inner\n\n#. first\n\nterm\n   What it means.\n",
            [("list", "- one\n  more\n- two\n  - inner\n1. first\n- term: What it means.")],
        ),
        (
            "+-----+------+\n| Day | Open |\n+=====+======+\n| Mon | ten  |\n|     | late |\n+-----+------+",
            [("table", "| Day | Open |\n| --- | --- |\n| Mon | ten late |")],
        ),
        (
            "===  ====\nDay  Open\n===  ====\nMon  ten\nTue  nine\n===  ====",
            [("table", "| Day | Open |\n| --- | --- |\n| Mon | ten |\n| Tue | nine |")],
        ),
        (
            '.. csv-table:: Hours\n   :header: Day, Open\n\n   Mon, "ten, late"\n',
            [("paragraph", "Hours"), ("table", "| Day | Open |\n| --- | --- |\n| Mon | ten, late |")],
        ),
        (
            (
                ".. image:: a.png\n   :alt: A map\n\n.. figure:: b.png\n\n   The town.\n\n.. versionad"
                "ded:: 3.2\n   Faster."
            ),
            [
                ("paragraph", "A map"),
                ("paragraph", "The town."),
                ("paragraph", "New in version 3.2"),
                ("paragraph", "Faster."),
            ],
        ),
        (
            ".. function:: load(path)\n\n   Load a file.\n\n   :param path: where it is\n",
            [("paragraph", "load(path)"), ("paragraph", "Load a file."), ("list", "- param path: where it is")],
        ),
    ],
)
def test_restructuredtext(text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks("a.rst", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "#+TITLE: Watch\n* TODO [#A] First :crew:\n  SCHEDULED: <2025-03-04 Tue>\n  :LOGBOOK:"
                "\n  - x\n  :END:\n  Text.\n** Sub"
            ),
            [
                ("heading", "First"),
                ("paragraph", "Tags: crew"),
                ("paragraph", "Scheduled <2025-03-04 Tue>"),
                ("paragraph", "Text."),
                ("heading", "Sub"),
            ],
        ),
        (
            "- [X] red\n  lamp\n- name :: a value\n  1. inner\n\n| a | b |\n|---+---|\n| 1 | 2 |\n#+TBLFM: $1=2",
            [("list", "- red lamp\n- name: a value\n  1. inner"), ("table", "| a | b |\n| --- | --- |\n| 1 | 2 |")],
        ),
        (
            "#+BEGIN_SRC sh\nls *\n#+END_SRC\n# comment\n: fixed\n#+begin_quote\nTo be.\n#+end_quote",
            [("code", "```sh\nls *\n```"), ("code", "```\nfixed\n```"), ("quote", "> To be.")],
        ),
        (
            "See [[http://x.y][the *site*]] and [[file:a.org]], =code=, /very/ a*b*c.[fn:1]\n\n[fn:1] A note.",
            [("paragraph", "See the site and a.org, `code`, very a*b*c.[1]"), ("paragraph", "[1] A note.")],
        ),
    ],
)
def test_org(text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks("a.org", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "= Ropes\nPiet Maas <p@x.y>\nv1.0, 2024-01-02\n:toc:\n:tool: rope\n\nA {tool}.\n\n[[id"
                "]]\n== Knots\n\n// no\nText."
            ),
            [
                ("heading", "Ropes"),
                ("paragraph", "Author: Piet Maas"),
                ("paragraph", "A rope."),
                ("heading", "Knots"),
                ("paragraph", "Text."),
            ],
        ),
        (
            ".A title\n[source,sh]\n----\ntie <1>\n----\n<1> ties it\n\n****\nAside.\n****\n\n////\nhidden\n////",
            [("paragraph", "A title"), ("code", "```sh\ntie\n```"), ("list", "1. ties it"), ("paragraph", "Aside.")],
        ),
        (
            "* one\n** inner\n* two\n+\nmore\n\n. first\n\nTerm:: What\nit means.",
            [("list", "- one\n  - inner\n- two more\n1. first\n- Term: What it means.")],
        ),
        (
            '[cols="1,2",options="header"]\n|===\n|Day |Open\n\n|Mon\n|ten\nlate\n|===\n\n|===\n|a |b\n|c |d\n|===',
            [
                ("table", "| Day | Open |\n| --- | --- |\n| Mon | ten late |"),
                ("table", "| a | b |\n| --- | --- |\n| c | d |"),
            ],
        ),
        (
            (
                "See http://x.y[the site^], <<id,there>>, link:a.pdf[paper], *bold* `co_de_`.footnote:[A note.]\n\n"
                "image::a.png[A map,200]\n\nNOTE: Look."
            ),
            [
                ("paragraph", "See the site, there, paper, bold `co_de_`. (A note.)"),
                ("paragraph", "A map"),
                ("paragraph", "NOTE: Look."),
            ],
        ),
    ],
)
def test_asciidoc(text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks("a.adoc", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                r"\section*{One}\label{a} Some \emph{very \textbf{bold}} text~\cite{x}. % no"
                "\n\n"
                r"50\% of caf\'e, \ss{}, \o re."
            ),
            [
                ("heading", "One"),
                ("paragraph", "Some very bold text\u00a0."),
                ("paragraph", "50% of caf\u00e9, \u00df, \u00f8re."),
            ],
        ),
        (
            r"\begin{enumerate}\item a \begin{itemize}\item b\end{itemize}\item[x] c\end{enumerate} End.",
            [("list", "1. a\n  - b\n2. x: c"), ("paragraph", "End.")],
        ),
        (
            (
                r"\begin{table}[h]\caption{Tea}\begin{tabular}{lr}\hline Kind & Price\\ \hline Green & "
                r"\$2\\\end{tabular}\end{table}"
            ),
            [("paragraph", "Tea"), ("table", "| Kind | Price |\n| --- | --- |\n| Green | $2 |")],
        ),
        (
            (
                "A $x^2$ and\n\\begin{equation}\\label{e}\nv = \\frac{d}{t}\n\\end{equation}\n\\begin{"
                "verbatim}\n% code\n\\end{verbatim}"
            ),
            [("paragraph", "A $x^2$ and\n$$v = \\frac{d}{t}$$"), ("code", "```\n% code\n```")],
        ),
        (
            r"\newcommand{\x}[1]{no #1}\href{http://x.y}{A link}, note\footnote{Really.}; ``quoted'' -- \verb|a_b|.",
            [("paragraph", "A link, note (Really.); \u201cquoted\u201d \u2013 `a_b`.")],
        ),
    ],
)
def test_latex(text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks("a.tex", text) == expected


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("a.rst", "Top\n===\n\n.. meta::\n   :description lang=en: About\n     ropes\n   :keywords: knots\n\nText.",
         "Description: About ropes\nKeywords: knots"),
        ("a.rst", "---\ntags: [knots]\n---\n\nTop\n===\n\nText.", "Tags: knots"),
        ("a.rst", "Top\n===\n\n.. header:: For members\n\nText.", "For members"),
        ("a.org", "#+TITLE: T\n#+DESCRIPTION: About ropes\n#+FILETAGS: :knots:\n#+ABSTRACT: All of it.\n* Top\nText.",
         "Description: About ropes\nTags: knots\nAbstract: All of it."),
        ("a.org", "+++\nsummary = 'About ropes'\n+++\n* Top\nText.", "Summary: About ropes"),
        ("a.adoc", "= Top\n:description: About \\\nropes\n:page-tags: knots\n:toc-title: In here\n\nText.",
         "Description: About ropes\nTags: knots"),
        ("a.adoc", "---\ndescription: About ropes\n---\n= Top\n\nText.", "Description: About ropes"),
    ],
)  # fmt: skip
def test_words_of_fields_follow_the_title(name: str, text: str, first: str) -> None:
    assert [(kind, part) for kind, part in blocks(name, text) if kind != "heading"] == [
        ("paragraph", first), ("paragraph", "Text."),
    ]  # fmt: skip
    assert blocks(name, text)[0] == ("heading", "Top")


def test_title_and_fields_of_front_matter_count_in_every_format() -> None:
    front = "---\ntitle: Ropes\nyear: 2024\n---\n"
    for name, text in (("a.rst", "Top\n===\n\nText."), ("a.org", "* Top\nText."), ("a.adoc", "= Top\n\nText.")):
        document = extract(name, front + text)
        assert (document.title, document.meta["year"]) == ("Ropes", 2024)
        assert document.text.endswith("Top\n\nText.")


def test_latex_document() -> None:
    text = (
        "\\documentclass{article}\n\\title{Tides \\& time}\n\\author{Piet}\n\\begin{document}"
        "\n\\maketitle\n\\input{intro}\n"
        "Water rises.\n\\end{document}\nnever"
    )
    document = extract("a.tex", text)
    assert (document.title, document.meta) == ("Tides & time", {"author": "Piet"})
    assert document.text == "# Tides & time\n\nPiet\n\nWater rises." and document.visible_words == 2
    assert [loss.reason for loss in document.losses] == ["1 file that it includes (intro)"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.rst", ".. include:: x.txt\n\ntext"),
        ("a.org", '#+INCLUDE: "x.txt"\ntext'),
        ("a.adoc", "include::x.txt[]\n\ntext"),
    ],
)
def test_included_files_are_accounted_for(name: str, text: str) -> None:
    document = extract(name, text)
    assert document.text == "text"
    assert [loss.reason for loss in document.losses] == ["1 file that it includes (x.txt)"]


def test_subtitles_are_passages_with_the_time_of_their_start() -> None:
    text = (
        "1\r\n00:00:01,000 --> 00:00:03,000\r\n<i>Seven boats</i>\r\nleft.\r\n\r\n"
        "2\r\n00:00:03,100 --> 00:00:05,500 X1:1\r\n{\\an8}In fog &amp; rain.\r\n\r\n"
        "3\r\n01:10:09,000 --> 01:10:12,000\r\n42\r\n"
    )
    document = extract("a.srt", text)
    assert document.text == "[0:01] Seven boats left. In fog & rain.\n\n[1:10:09] 42"
    assert [(block.start_time, block.end_time) for block in document.blocks] == [(1.0, 5.5), (4209.0, 4212.0)]


def test_webvtt_has_speakers_and_no_notes() -> None:
    text = (
        "WEBVTT - The talk\n\nNOTE by hand\nand more\n\nSTYLE\n::cue { color: lime }\n\nintro"
        "\n00:01.000 --> 00:04.000\n"
        "<v Ines>The wind turned\n\nnext\n00:04.000 --> 00:07.000\n<v Ines>at <00:05.000>noon.\n\n"
        "NOTE left out\n\n00:07.000 --> 00:09.000\n<v Omar>Yes.</v>\n"
    )
    document = extract("a.vtt", text)
    assert document.text == "[0:01] Ines: The wind turned at noon.\n\n[0:07] Omar: Yes."
    assert document.title == "The talk"


def test_live_captions_do_not_repeat_lines() -> None:
    cues = ["one two", "one two\nthree four", "three four\nfive six"]
    text = "WEBVTT\n\n" + "\n\n".join(f"00:0{n}.000 --> 00:0{n + 1}.000\n{cue}" for n, cue in enumerate(cues))
    assert extract("a.vtt", text).text == "[0:00] one two three four five six"


def test_text_without_times_is_read_as_text() -> None:
    assert extract("a.srt", "no times\n\nat all").text == "no times\n\nat all"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"office": "Z\u00fcrich", "open": True, "none": None}, "office: Z\u00fcrich\nopen: true\nnone: null"),
        (
            {
                "menu": [{"dish": "Cr\u00eape", "price": 9.50}, {"dish": "Th\u00e9", "tags": ["hot", "new"]}],
                "note": "a\nb",
            },
            "menu:\n  - dish: Cr\u00eape\n    price: 9.5\n  - dish: Th\u00e9\n    tags: hot, new\n\nnote: a\n  b",
        ),
        ([1, 2, "drei"], "1, 2, drei"),
        ([{"a": "\u00fc"}, {"a": {"b": []}}], "a: \u00fc\n\na: b:"),
        ("alone \u2013 a text", "alone \u2013 a text"),
    ],
)
def test_json_is_read_without_escapes(value: object, expected: str) -> None:
    text = extract("a.json", json.dumps(value)).text
    assert text.replace("\n\n", "\n").replace(" \n", "\n").split() == expected.split()
    assert "\\u" not in text and '"' not in text


def test_json_keeps_names_that_repeat_and_exact_numbers() -> None:
    assert (
        extract("a.json", '{"a": 1, "a": 1.10, "b": 12345678901234567890}').text
        == "a: 1\na: 1.10\nb: 12345678901234567890"
    )


@pytest.mark.parametrize("text", ['{"a": 1, // comment\n}', "{broken", "[" * 5000])
def test_other_files_named_json_are_source_code(text: str) -> None:
    document = extract("a.json", text)
    assert document.text == text and document.form == "code"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "<book><title>Tides</title><chapter><title>One</title><para>High <emphasis>water</emph"
                "asis> &amp; low.</para>"
                "</chapter></book>"
            ),
            [("heading", "Tides"), ("heading", "One"), ("paragraph", "High water & low.")],
        ),
        (
            (
                "<ships><!-- no --><ship><name>Albatros</name><built>1911</built></ship><ship><name>Kormoran</name>"
                "<note><![CDATA[Hull <rotten>]]></note></ship></ships>"
            ),
            [("table", "name: Albatros\nbuilt: 1911"), ("table", "name: Kormoran\nnote: Hull <rotten>")],
        ),
        (
            (
                "<rss><channel><title>News</title><item><title>Boats</title><description>&lt;p&gt;Seve"
                "n &lt;b&gt;left&lt;/b&gt;."
                "&lt;/p&gt;</description></item></channel></rss>"
            ),
            [("heading", "News"), ("heading", "Boats"), ("paragraph", "Seven left.")],
        ),
    ],
)
def test_xml_is_read_without_tags(text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks("a.xml", text) == expected


@pytest.mark.parametrize("text", ["<a b='one two three'><c d='four'/></a>", "<broken>", "<a>x</b>"])
def test_xml_without_texts_is_source_code(text: str) -> None:
    assert extract("a.xml", text).text == text


def test_entities_of_xml_read_no_files() -> None:
    text = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>one two three &x;</a>'
    assert "root" not in extract("a.xml", text).text


@pytest.mark.parametrize(
    ("name", "text"), [("a.rst", "A\n=\n\ntext"), ("a.tex", r"\section{A} text"), ("a.json", '{"a": "text"}')]
)
def test_the_reader_chooses_them(name: str, text: str) -> None:
    with DocumentReader() as reader:
        document, _ = reader.document(text.encode(), name)
    assert "text" in document.text and "\\" not in document.text and "{" not in document.text

"""HTML: all that a reader sees of a page is in the text, in order, with its structure; navigation is not."""

from __future__ import annotations

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

PROSE = "<p>This guide explains in detail how the service is deployed, and what must be done before its start.</p>"


def page(inner: str, *, head: str = "<title>Guide</title>", main: str = "main") -> str:
    return (
        f"<html><head>{head}</head><body><nav><a href=/>Home</a> <a href=/b>Blog</a></nav><{main}><h1>Guide</h1>{PROSE}"
        f"{inner}</{main}><footer><a href=/i>Imprint</a> <a href=/p>Privacy</a></footer></body></html>"
    )


def extract(text: str) -> Document:
    return HtmlExtractor().extract(text.encode(), "page.html")


def blocks(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def inner_blocks(inner: str) -> list[tuple[str, str]]:
    document = extract(page(inner))
    assert document.visible_words is not None and count_words(document.text) >= document.visible_words
    return blocks(document)[2:]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (
            (
                "<ul><li>Use the <code>tool get</code> utility:<li>Or <samp>tool.fetch()</samp><li>An id: <pre><code>"
                "tool get repo/name\n  --all</code></pre></ul>"
            ),
            [
                (
                    "list",
                    (
                        "- Use the `tool get` utility:\n- Or `tool.fetch()`\n- An id:\n  ```\n  tool get repo/name\n"
                        "    --all\n  ```"
                    ),
                ),
            ],
        ),
        (
            "<ol start=3><li>three<ul><li>inner</ul><li><p>four<p>more</ol>",
            [("list", "3. three\n   - inner\n4. four\n   more")],
        ),
        (
            "<dl><dt>Teal<dd>A small duck<dt>Mallard<dt>Wild duck<dd>A common duck<dd>Eats bread</dl>",
            [("list", "- Teal: A small duck\n- Mallard, Wild duck: A common duck; Eats bread")],
        ),
        (
            "<dl><dt>load(path)<dd><p>Load a file.</p><pre class='language-python'>load('a')</pre></dl>",
            [("paragraph", "load(path)"), ("paragraph", "Load a file."), ("code", "```python\nload('a')\n```")],
        ),
        (
            "<details><summary>When is it <b>open</b>?</summary><p>From nine.</details>",
            [("paragraph", "When is it open?"), ("paragraph", "From nine.")],
        ),
        (
            "<figure><img src=a.png alt='A map of the town'><figcaption>Fig. 1: streets</figcaption></figure>",
            [("paragraph", "A map of the town"), ("paragraph", "Fig. 1: streets")],
        ),
        (
            "<div><img alt=''><img alt='logo'><iframe title='Harbour map'></iframe></div>",
            [("paragraph", "Harbour map")],
        ),
        ("<blockquote><p>To be.<p>Or not.</blockquote>", [("quote", "> To be.\n>\n> Or not.")]),
        ("<p>One<br>two", [("paragraph", "One\ntwo")]),
        (
            "<p>Water is H<sub>2</sub>O, 10<sup>6</sup> drops, the 1<sup>st</sup>, a lake<sup><a href=#n>3</a></sup>.",
            [("paragraph", "Water is H2O, 10^6 drops, the 1st, a lake[3].")],
        ),
        (
            "<h2 id=a>Start<a class=headerlink href=#a>\u00b6</a></h2><h3><a href=#b>#</a> Next</h3>",
            [("heading", "Start"), ("heading", "Next")],
        ),
        (
            "<div><button>May I bring a dog?</button><div>Yes.</div></div>",
            [("paragraph", "May I bring a dog?"), ("paragraph", "Yes.")],
        ),
        (
            "<noscript>Opening hours are shown on the door.</noscript>",
            [("paragraph", "Opening hours are shown on the door.")],
        ),
        (
            "<h2><button aria-expanded=false>Who pays?</button></h2><p>We do. <button>Copy</button>",
            [("heading", "Who pays?"), ("paragraph", "We do.")],
        ),
        (
            "<div role=tabpanel hidden>In a tab.</div><div hidden>Nowhere.</div><p style='display: none'>Nor here.",
            [("paragraph", "In a tab.")],
        ),
        (
            (
                "<p>Area <math><semantics><mi>x</mi><annotation encoding='application/x-tex'>{\\displaystyle x^2}"
                "</annotation></semantics></math>"
            ),
            [("paragraph", "Area $x^2$")],
        ),
        (
            "<p>So <math><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></math>",
            [("paragraph", "So E = mc^2")],
        ),
        ("<p>\u6f22<ruby>\u5b57<rp>(</rp><rt>ji</rt><rp>)</rp></ruby>", [("paragraph", "\u6f22\u5b57(ji)")]),
        ("<svg><text>Axis label</text><text>Time</text></svg>", [("paragraph", "Axis label Time")]),
        ("<ul><li><h2>Card</h2><p>Its text.</ul>", [("heading", "Card"), ("paragraph", "Its text.")]),
        ("<textarea>A default text</textarea>", [("paragraph", "A default text")]),
        ("<p><a href=x><div>A</div><div>B</div></a>", [("paragraph", "A"), ("paragraph", "B")]),
    ],
)
def test_what_a_reader_sees_is_in_the_text(inner: str, expected: list[tuple[str, str]]) -> None:
    assert inner_blocks(inner) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            (
                "<tr><th>Day<th>Hours</tr><tr><td>Monday<td><ul><li>ten to noon<li>two to six</ul></tr>"
                "<tr><td>Friday<td><p>Closed.<p>Ring.</tr>"
            ),
            ["| Day | Hours |", "| --- | --- |", "| Monday | ten to noon; two to six |", "| Friday | Closed. Ring. |"],
        ),
        (
            (
                "<thead><tr><th rowspan=2>Tea<th colspan=2>Price</tr><tr><th>2023<th>2024</tr></thead>"
                "<tr><td rowspan=2>Green<td>1<td>2</tr><tr><td>3<td>4</tr>"
            ),
            ["| Tea | Price 2023 | Price 2024 |", "| --- | --- | --- |", "| Green | 1 | 2 |", "| Green | 3 | 4 |"],
        ),
        (
            "<tr><td>a|b<td><pre>x\n y</pre></tr><tr><td><code>z</code><td>",
            ["| a\\|b | `x y` |", "| --- | --- |", "| `z` |  |"],
        ),
        ("<tr><th>Month<th>Cost</tr><tr><td>May<td>120</tr>", ["| Month | Cost |", "| --- | --- |", "| May | 120 |"]),
    ],
)
def test_tables_keep_their_cells(rows: str, expected: list[str]) -> None:
    found = inner_blocks(f"<table><caption>A caption</caption>{rows}</table>")
    assert found == [("paragraph", "A caption"), ("table", "\n".join(expected))]


def test_tables_that_lay_out_a_page_become_its_blocks() -> None:
    nested = "<table><tr><td>A<td>B</tr></table>"
    assert [kind for kind, _ in inner_blocks(f"<table><tr><td><h2>Left</h2>{nested}<td><p>Right.</table>")] == [
        "heading", "table", "paragraph",
    ]  # fmt: skip


def test_a_short_page_keeps_its_table() -> None:
    document = extract("<h1>Setup</h1><table><tr><th>Month<th>Cost</tr><tr><td>May<td>120</tr></table>")
    assert blocks(document) == [("heading", "Setup"), ("table", "| Month | Cost |\n| --- | --- |\n| May | 120 |")]


@pytest.mark.parametrize("main", ["main", "article", "div", "div role=main"])
def test_navigation_is_left_out(main: str) -> None:
    document = extract(page("<p>The end.", main=main))
    assert next(text for _, text in blocks(document)) == "Guide" and document.text.endswith("The end.")
    assert not any(word in document.text for word in ("Home", "Blog", "Imprint", "Privacy"))
    assert document.visible_words == count_words(document.text)


@pytest.mark.parametrize(
    "beside",
    [
        "<footer><p>Open Monday to Friday from nine to five, at the old harbour, house number twelve.</footer>",
        "<header><h1>The name of all</h1></header>",
        "<div><p>Please note that the office moves in autumn: from then on, letters go to the new address.</div>",
        "<div class=note><p>A note with <a href=x>one link</a>, and with more words that are none, as in a text.</div>",
    ],
)
def test_text_beside_the_main_content_is_kept(beside: str) -> None:
    document = extract(f"<body><main><h2>Guide</h2>{PROSE}{PROSE}{PROSE}</main>{beside}</body>")
    words = beside.replace("<", " <").replace(">", "> ").split()
    assert all(word.strip(",.") in document.text for word in words if word.isalpha())


def test_a_page_of_links_is_kept() -> None:
    links = "".join(f"<li><a href={n}>Chapter {n} of the book</a>" for n in range(20))
    document = extract(f"<title>Index</title><h1>Contents</h1><ul>{links}</ul>")
    assert "Chapter 19" in document.text and document.visible_words == count_words(document.text)


def test_pictures_without_a_description_are_accounted_for() -> None:
    document = extract(page("<p>See <img src=a.png><img src=b.png alt=''><img src=c.png width=16></p>"))
    assert [loss.reason for loss in document.losses] == ["1 picture without a description"]


def test_lists_that_are_nested_deep_do_not_take_the_square_of_time() -> None:
    document = extract("<ul><li>word" * 180 + "</ul>" * 180)
    assert document.text.count("word") == 180


@pytest.mark.parametrize("tag", ["embed", "source", "track", "wbr", "keygen", "bgsound", "command", "param", "col"])
def test_nothing_is_lost_after_a_tag_without_an_end(tag: str) -> None:
    """libxml2 takes several of them for containers of all that follows."""
    assert "After the film." in extract(page(f"<p>Before it.</p><{tag} src='film.swf'><p>After the film.</p>")).text


def test_what_stands_after_the_end_of_a_page_is_read() -> None:
    text = (
        "<html><body><p>The first part.</p></body></HTML><p>After it.</p><html><body><p>Another page.</p></body></html>"
    )
    assert blocks(extract(text)) == [
        ("paragraph", "The first part."),
        ("paragraph", "After it."),
        ("paragraph", "Another page."),
    ]


LINKS = '<nav><ul><li><a href="a.html">Home</a></li><li><a href="b.html">About us</a></li></ul></nav>'


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (f"<title>Menu</title>{LINKS}", r"\(not read: navigation alone, 2 links: Home, About us\)\. Index the pages"),
        ("<h2></h2><nav>" + "".join(f'<a href="{n}">Page {n}</a> ' for n in range(9)) + "</nav>",
         r"navigation alone, 9 links: Page 0, Page 1, Page 2, \.\.\.\)"),
        ("<nav>Menu of the site</nav>", "navigation alone, without any content of the page"),
        ('<frameset><frame src="left.html"><frame src="main.html"></frameset>', "frames alone: left.html, main.html"),
        ('<meta http-equiv="Refresh" content="0; url=new/index.html"><body></body>', "a forward to new/index.html"),
        ('<title>App</title><div id="root"></div><script src="app.js"></script>', "what its scripts would show"),
        (f'{LINKS}<img src="x.png">', "1 picture without a description; navigation alone, 2 links"),
        ("<title>Empty</title><body></body>", "the file contains no text"),
    ],
)  # fmt: skip
def test_a_page_without_text_says_what_it_has_instead(page: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        HtmlExtractor().extract(page.encode(), "a.html")


# -- frames ------------------------------------------------------------------------------------------------------------

_INNER = "&lt;h2&gt;Tides&lt;/h2&gt;&lt;p&gt;High water at nine.&lt;/p&gt;&lt;script&gt;run()&lt;/script&gt;"


@pytest.mark.parametrize(
    "frame",
    [
        f'<iframe srcdoc="{_INNER}"></iframe>',
        f'<iframe src="other.html" srcdoc="{_INNER}">Your browser has no frames.</iframe>',
        '<iframe src="data:text/html,%3Ch2%3ETides%3C/h2%3E%3Cp%3EHigh water at nine.%3C/p%3E"></iframe>',
        '<iframe src="data:text/html;base64,PGgyPlRpZGVzPC9oMj48cD5IaWdoIHdhdGVyIGF0IG5pbmUuPC9wPg=="></iframe>',
        f'<iframe srcdoc="&lt;iframe srcdoc=&apos;{_INNER.replace("&", "&amp;")}&apos;&gt;&lt;/iframe&gt;"></iframe>',
    ],
)
def test_the_page_in_a_frame(frame: str) -> None:
    document = extract(f"<body><h1>Harbour</h1><p>Before it.</p>{frame}<p>After it.</p></body>")
    assert blocks(document) == [
        ("heading", "Harbour"), ("paragraph", "Before it."), ("heading", "Tides"),
        ("paragraph", "High water at nine."), ("paragraph", "After it."),
    ]  # fmt: skip
    assert document.visible_words == 10


def test_frames_without_a_page_and_hidden_ones() -> None:
    empty = ('srcdoc=""', 'src="data:text/html;base64,A"', f'hidden srcdoc="{_INNER}"', 'src="data:image/png,x"')
    for frame in (f"<iframe {attributes}></iframe>" for attributes in empty):
        assert extract(f"<body><p>Before it.</p>{frame}<p>After it.</p></body>").text == "Before it.\n\nAfter it."

"""Markup in Markdown that is no content: it is taken out before the text is split; positions stay those in the file."""

from __future__ import annotations

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.markdown import MarkdownExtractor
from nearfield.corpus.indexing.cleaning.document_cleaner import clean, without_markup


def extract(text: str, name: str = "a.md") -> Document:
    document = MarkdownExtractor().extract(text.encode(), name)
    assert document.text == text
    return document


def shown(text: str, name: str = "a.md") -> str:
    return without_markup(extract(text, name)).text.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Tides {#tides .wide}", "# Tides"),
        ("# Tides { #tides }\ntext", "# Tides\ntext"),
        ("## Next [\u00b6](#next)", "## Next"),
        ('# Setup <a name="setup"></a>', "# Setup"),
        ("text\n{: .class #id}\nmore", "text\n\nmore"),
        ('[link](x){target="_blank"} and ![a](b.png){width=50%}.', "[link](x) and ![a](b.png)."),
        ("{{#include intro.md}}\n\ntext", "text"),
        ("```rust\n{{#rustdoc_include ../listing.rs:here}}\n```\n\ntext", "text"),
        ('--8<-- "part.md"\n\ntext', "text"),
        ("{% include note.html %}\n\ntext {% raw %}inner{% endraw %}", "text inner"),
        ('{{< figure src="a.png" caption="A map" >}}', "A map"),
        ("<!-- internal -->text <!-- more\nlines -->end", "text end"),
        ("[toc]\n\ntext\n\n[ref]: http://example.com 'T'\n[^1]: A note.", "text\n\n\n[^1]: A note."),
        (":::note Take care\nHot.\n:::", "Take care\nHot."),
        ('!!! warning "Take care"\n    Hot.', "Take care\n    Hot."),
        ("<details><summary>More</summary>Inner</details>", "More Inner"),
        ('<p align="center"><img src="a.png" alt="A map"></p>', "A map"),
        ("H<sub>2</sub>O, 10<sup>6</sup>", "H2O, 10^6"),
        (r"snake\_case &amp; caf&eacute;&nbsp;x", "snake_case & caf\u00e9\u00a0x"),
        ("![p](data:image/png;base64,AAAA)", "![p]()"),
        ("<style>\np { color: red }\n</style>\n\ntext", "text"),
    ],
)
def test_markup_is_taken_out(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "`<b>` and `{#id}` and ``<!-- a -->``",
        "```js\nimport x from 'y'\n<b>{#a}</b> &amp; \\_\n```",
        "- item\n\n  ```html\n  <p>code</p>\n  ```",
        "    <p>indented</p>",
        "Replace <name> with Vec<T>, a < b > c",
        "$x_{.5}$ and {braces} and {{ site.name }} cost $5 or $6",
        "<https://example.com> and <me@example.com>",
        "import the file from the folder, then export it",
        "a \\| b, \\(x\\)",
        "Heading\n===",
    ],
)
def test_text_that_looks_like_markup_stays(text: str) -> None:
    assert shown(text) == text.strip()


def test_mdx() -> None:
    text = """import { Chart } from '../chart'
import Tabs from "@theme/Tabs";
export const meta = {
  draft: true
}

# Tides

High water {/* why? */}is later.

<Chart data={rows} width={400} />

<TabItem value="a" label="Linux">

Run it.

</TabItem>
"""
    document = without_markup(extract(text, "a.mdx"))
    assert " ".join(document.text.split()) == "# Tides High water is later. Linux Run it."
    assert [document.text[block.start : block.end] for block in document.blocks] == [
        "Tides", "High water is later.", "Linux", "Run it.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("front", "meta"),
    [
        ('+++\ntitle = "Boats"\ndate = 2024-10-02\nicons = ["a", "b"]\ndraft = false\n+++\n',
         {"date": "2024-10-02", "icons": "a, b", "draft": False}),
        ("---\ntitle: Boats\nyear: 2024\n---\n", {"year": 2024}),
        ('{\n  "title": "Boats",\n  "year": 2024\n}\n', {"year": 2024}),
        ('+++\r\ntitle = "Boats"\r\n+++\r\n', {}),
    ],
)  # fmt: skip
def test_front_matter_becomes_title_and_fields(front: str, meta: dict[str, object]) -> None:
    document = extract(f"{front}\n# Before the frost\n\nDrain the engine.")
    assert (document.title, document.meta) == ("Boats", meta)
    assert without_markup(document).text.strip() == "# Before the frost\n\nDrain the engine."


@pytest.mark.parametrize(
    ("front", "text"),
    [
        ("---\ntags: [harbour, ice]\nkeywords: frost\n---\n", "Tags: harbour, ice\nKeywords: frost"),
        ("---\ndescription: >\n  Two\n  lines.\nlayout: a b c\n---\n", "Description: Two lines."),
        ('+++\nabstract = "How to moor."\nweight = 3\n+++\n', "Abstract: How to moor."),
        ('{\n  "summary": "Short."\n}\n', "Summary: Short."),
        ("---\nauthors:\n- name: Ada\n  at: Example University\n- name: Eva\n---\n",
         "Authors: Ada, Example University, Eva"),
        ("---\nlong_note: Three words here\nshort: Two words\nsource: /a/b/c d\n---\n",
         "Long note: Three words here\nSource: /a/b/c d"),
        ("---\nimages: [/img/a b.png, https://x.y/z]\nedit: https://a.b/c\n---\n", "Images: /img/a b.png"),
        ("---\ntags: [2024]\nyears: [2021, 2022, 2023]\ntitle: T\n---\n", "Tags: 2024"),
    ],
)  # fmt: skip
def test_words_of_front_matter_are_the_first_paragraph(front: str, text: str) -> None:
    source = f"{front}\n# Before the frost\n\nDrain the engine."
    document = extract(source)
    assert without_markup(document).text == f"{text}\n\n# Before the frost\n\nDrain the engine."
    cleaned = clean(document)
    first = cleaned.document.blocks[0]
    assert cleaned.document.text[first.start : first.end] == text
    start, end = cleaned.origin(first.start, first.end)
    assert source[start:end] == front.rstrip()


def test_front_matter_without_words_has_no_paragraph() -> None:
    document = extract("---\nlayout: post\nyear: 2024\n---\n\n# Frost\n")
    assert [block.kind for block in document.blocks] == ["heading"]


@pytest.mark.parametrize("text", ["+++\nnot = = toml\n+++\n", "---\njust text\n---\n", "{\n braces }\n", "+++\nopen"])
def test_what_is_no_front_matter_is_text(text: str) -> None:
    assert "".join(shown(text + "\nend").split()) == "".join((text + "end").split())


def test_files_that_are_included_are_accounted_for() -> None:
    losses = extract("{{#include a.md}}\n\ntext\n\n--8<-- 'b.md'\n").losses
    assert [loss.reason for loss in losses] == ["2 files that it includes (a.md, b.md)"]


def test_positions_are_those_in_the_file() -> None:
    text = "+++\ntitle = 'T'\n+++\n\n# Tides {#tides}\n\nHigh <b>water</b> &amp; low water.\n"
    cleaned = clean(extract(text))
    block = cleaned.document.blocks[1]
    assert cleaned.document.text[block.start : block.end] == "High water & low water."
    start, end = cleaned.origin(block.start, block.end)
    assert text[start:end] == "High <b>water</b> &amp; low water."


def test_a_title_has_no_anchor() -> None:
    assert extract("# The `code` {#id}\n").title == "The code"
    assert extract("# snake\\_case <a id=x></a>\n").title == "snake_case"

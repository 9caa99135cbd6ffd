"""Markup in Markdown that is no content: it is taken out before the text is split; positions stay those in the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.document import Document
from nearfield.corpus.extractors.markdown import MarkdownExtractor, parse_markdown
from nearfield.corpus.indexing.cleaning.document_cleaner import clean, without_markup
from nearfield.corpus.sources.spec import parse_source
from nearfield.testing import write_tiny_model


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


# -- wide tables ---------------------------------------------------------------------------------------------------


def wide_table(columns: int, rows: list[list[str]], *, edges: bool = True, head: str = "head") -> str:
    lines = [[f"**{head}** {number}" for number in range(columns)], ["---"] * columns, *rows]
    joined = [" | ".join(line) for line in lines]
    return "".join(f"| {line} |\n" if edges else f"{line}\n" for line in joined)


def seen(text: str) -> str:
    """Return a text without its markup."""
    parts, at = [], 0
    for start, end, replacement in parse_markdown(text).markup:
        assert at <= start <= end
        parts += [text[at:start], replacement]
        at = end
    return "".join([*parts, text[at:]])


@pytest.mark.parametrize("edges", [True, False])
def test_cells_of_wide_tables_have_the_names_of_their_columns(edges: bool) -> None:
    rows = [[f"value {row} of {column}" for column in range(30)] for row in range(2)]
    text = f"# Title\n\nBefore.\n\n{wide_table(30, rows, edges=edges)}\nAfter it.\n"
    expected = [f"head {column}: value {row} of {column}" for row in range(2) for column in range(30)]
    result = seen(text)
    assert [line for line in result.split("\n") if ": " in line] == expected
    assert result.startswith("# Title\n\nBefore.\n\n") and result.endswith("\n\nAfter it.\n")
    assert "head 29: value 0 of 29\n\nhead 0: value 1 of 0" in result
    assert "**" not in result and "---" not in result


def test_cells_of_wide_tables_may_be_empty_missing_or_more() -> None:
    row = [f"a\\|b of {column} `x`" if column % 2 else "" for column in range(40)]
    result = seen(wide_table(40, [row, ["only one cell of it"], [*row, "extra"]]))
    assert "head 1: a\\|b of 1 `x`\nhead 3: a\\|b of 3 `x`" in result
    assert "\n\nhead 0: only one cell of it\n\nhead 1: " in result and result.endswith("\ncolumn 41: extra\n")
    assert "head 2:" not in result and "**head** 2 |" in result, "names of empty columns stay"


@pytest.mark.parametrize(
    "text",
    [
        wide_table(5, [["long text " * 30] * 5]),
        wide_table(30, [["1"] * 30]),
        wide_table(30, []),
        "```\n" + wide_table(30, [["a longer value of it"] * 30], head="h").replace("**", "") + "```\n",
    ],
)
def test_other_tables_stay_as_they_are_written(text: str) -> None:
    assert "| " in seen(text) and seen(text).count("\n") == text.count("\n")


def test_chunks_of_a_wide_table_have_each_cell_with_its_name(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    rows = [[f"v{row * 211 + column * 7}" for column in range(80)] for row in range(4)]
    (files / "a.md").write_text("# Figures\n\n" + wide_table(80, rows))
    model = write_tiny_model(tmp_path / "tiny")
    with Collection.create("a", {"features": {"dense": {"model": str(model)}}}, home=tmp_path / "home") as collection:
        report = collection.index([parse_source(str(files))])
        (info,) = collection.documents()
        text = "\n".join(chunk.text for chunk in collection.manifest.all_chunks(info.id))
        assert (report.partial, report.failed, info.share) == (0, 0, 1.0)
        missing = [
            cell for row in rows for column, cell in enumerate(row) if not re.search(rf"head {column}: {cell}\b", text)
        ]
        assert not missing
        (hit,) = collection.search(rows[2][40], k=1, mode="bm25")
        assert hit.lines == (7, 7) and f"head 40: {rows[2][40]}" in hit.text

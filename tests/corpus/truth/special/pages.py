"""HTML: what readers of a page see and extraction of the main content may drop."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus.truth.model import TruthFile

_PROSE = (
    "The valley has been farmed for nine centuries, and most of its terraces are older than the church.",
    "Walls of dry stone hold the soil, and each family repairs the stretch below its own field in March.",
    "Water comes from two springs that never dry up, through channels that a warden opens by the clock.",
)


def _page(body: str, title: str = "Terraces") -> bytes:
    head = f'<meta charset="utf-8"><title>{title}</title><script>var hidden = "tracker";</script>'
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>".encode()


def _long(body: str) -> str:
    """Return an article that is long enough to count as main content, around a body."""
    before, after = (f"<p>{text}</p>" for text in _PROSE[:2])
    return f"<main><article>{before}{body}{after}<p>{_PROSE[2]}</p></article></main>"


def _around(*pieces: str) -> tuple[str, ...]:
    return (_PROSE[0], *pieces, *_PROSE[1:])


def files() -> Iterator[TruthFile]:
    """Yield pages with one fault each."""
    yield TruthFile(
        "list-with-code.html",
        lambda: _page(
            _long(
                "<h2>Commands</h2><ul><li>Run <code>sluice open</code> at dawn.</li>"
                "<li><pre><code>sluice close --all</code></pre> ends the day.</li><li>Call the <b>warden</b></li></ul>"
            )
        ),
        _around("Commands", "Run sluice open at dawn.", "sluice close --all", "ends the day.", "Call the warden"),
        ("Commands",),
        absent=("tracker",),
        fault="list items with code",
    )
    yield TruthFile(
        "definitions.html",
        lambda: _page(
            _long(
                "<dl><dt>Sill</dt><dd>The stone across a channel.</dd><dt>Turn</dt>"
                "<dd>The hours in which a field gets water.</dd></dl>"
            )
        ),
        _around("Sill", "The stone across a channel.", "Turn", "The hours in which a field gets water."),
        fault="definition lists",
    )
    yield TruthFile(
        "details.html",
        lambda: _page(
            _long("<details><summary>Who mends the gate?</summary><p>The youngest warden mends it.</p></details>")
        ),
        _around("Who mends the gate?", "The youngest warden mends it."),
        fault="summaries of details",
    )
    yield TruthFile(
        "captions.html",
        lambda: _page(
            _long(
                '<figure><img src="w.jpg" alt="A wall with a gap"><figcaption>Wall after the storm of 1998'
                "</figcaption></figure><table><caption>Lengths of walls</caption><tr><th>Wall</th><th>Metres</th></tr>"
                "<tr><td>Upper</td><td>412</td></tr></table>"
            )
        ),
        _around("A wall with a gap", "Wall after the storm of 1998", "Lengths of walls", "Wall Metres Upper 412"),
        tables=((("Wall", "Metres"), ("Upper", "412")),),
        fault="captions and alternative texts",
    )
    yield TruthFile(
        "list-in-cell.html",
        lambda: _page(
            _long(
                "<table><tr><th>Spring</th><th>Fields</th></tr><tr><td>Upper</td><td><ul><li>Long acre</li>"
                "<li>Mill field</li></ul></td></tr><tr><td>Lower</td><td>Church field</td></tr></table>"
            )
        ),
        _around("Spring Fields", "Upper", "Long acre", "Mill field", "Lower", "Church field"),
        tables=((("Spring", "Fields"), ("Lower", "Church field")),),
        fault="lists in cells",
    )
    yield TruthFile(
        "heading-outside.html",
        lambda: _page(f"<header><h1>The terraces of Vallon</h1></header>{_long('')}<footer></footer>"),
        ("The terraces of Vallon", *_PROSE),
        ("The terraces of Vallon",),
        fault="main heading outside the article",
    )
    yield TruthFile(
        "short-table.html",
        lambda: _page(
            "<h1>Water turns</h1><table><tr><th>Day</th><th>Field</th></tr><tr><td>Monday</td><td>Long acre</td></tr>"
            "<tr><td>Friday</td><td>Mill field</td></tr></table>",
            "Water turns",
        ),
        ("Water turns", "Day Field", "Monday Long acre", "Friday Mill field"),
        ("Water turns",),
        ((("Day", "Field"), ("Monday", "Long acre"), ("Friday", "Mill field")),),
        fault="rows of short pages",
    )
    yield TruthFile(
        "nested-list.html",
        lambda: _page(
            _long(
                "<ol><li>Open the sill<ol><li>lift the stone</li><li>clear the leaves</li></ol></li><li>Wait</li></ol>"
            )
        ),
        _around("Open the sill", "lift the stone", "clear the leaves", "Wait"),
        fault="nested lists",
    )
    yield TruthFile(
        "spans.html",
        lambda: _page(
            "<h1>Harvest</h1><table><tr><th rowspan='2'>Crop</th><th colspan='2'>Tonnes</th></tr>"
            "<tr><th>2023</th><th>2024</th></tr><tr><td>Chestnut</td><td>18</td><td>21</td></tr>"
            "<tr><td>Rye</td><td>7</td><td>6</td></tr></table>"
        ),
        ("Harvest", "Crop", "Tonnes", "2023", "2024", "Chestnut 18 21", "Rye 7 6"),
        ("Harvest",),
        ((("Crop", "Tonnes 2023", "Tonnes 2024"), ("Chestnut", "18", "21"), ("Rye", "7", "6")),),
        fault="merged heads",
    )
    yield TruthFile(
        "exponents.html",
        lambda: _page(
            _long("<p>The formula of water is H<sub>2</sub>O, and 10<sup>6</sup> drops fill 50&nbsp;litres.</p>")
        ),
        _around("The formula of water is", "drops fill 50 litres."),
        absent=("<sub>", "<sup>", "106 drops"),
        fault="exponents",
    )
    yield TruthFile(
        "cards.html",
        lambda: _page(
            "<h1>Boats for hire</h1><div class='grid'>"
            "<div><h2>Rowing boat</h2><p>Four seats</p><span>12 euro</span></div>"
            "<div><h2>Kayak</h2><p>Two seats</p><span>18 euro</span></div></div><footer>Call 555 0142</footer>"
        ),
        ("Boats for hire", "Rowing boat", "Four seats", "12 euro", "Kayak", "Two seats", "18 euro"),
        ("Boats for hire", "Rowing boat", "Kayak"),
        fault="pages without an article",
    )

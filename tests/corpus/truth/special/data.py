"""Data: JSON, XML, YAML, TOML, CSV of several dialects, notebooks, calendars, contacts, archives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.corpus.truth.model import TableRows, TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import markup, messages, office

_JSON = {
    "title": "Café “Zur Mühle”",
    "menu": [{"dish": "Käsespätzle", "price": 9.5}, {"dish": "Crème brûlée", "price": 6}],
    "note": "Closed on Mondays\nand holidays",
}
_XML = """<?xml version="1.0" encoding="UTF-8"?>
<!-- exported -->
<catalogue xmlns:x="urn:x"><ship id="s1"><name>Albatros</name><note>Sails &amp; oars</note>
<x:built>1911</x:built></ship><ship id="s2"><name>Kormoran</name>
<note><![CDATA[Hull <rotten>]]></note></ship></catalogue>
"""
_YAML = """# Crew of the ferry
captain:
  name: Solveig Dahl
  since: 2011
notes: >
  Speaks four languages
  and plays the accordion.
"""
_TOML = """# Settings of the crane
[crane]
operator = "Mirko Vidal"
reach = 42
remarks = \"\"\"Grease the
slewing ring weekly.\"\"\"
"""
_ROWS: TableRows = (
    ("Name", "Remark", "Amount"),
    ("Meyer; Sons", 'says "yes"', "12,50"),
    ("Øst", "two\nlines", "7,00"),
)
_CARD = (
    "BEGIN:VCARD\r\nVERSION:3.0\r\nN:Moreau;Claire;;;\r\nFN:Claire Moreau\r\nORG:Quay Works\\, Ltd.\r\n"
    "TEL;TYPE=WORK:+32 3 555 01 02\r\nEMAIL:claire@example.org\r\nNOTE:Speaks Dutch and\r\n  Portuguese\r\n"
    "END:VCARD\r\n"
)
_CHAT = (
    ("04/03/2025, 18:02", "Lena", "Who brings the boat trailer on Saturday?"),
    ("04/03/2025, 18:05", "Omar", "I do, it fits behind my van."),
    ("04/03/2025, 18:06", "Lena", "Great, meet at the slipway at seven."),
)


def _slack() -> bytes:
    users = [{"id": "U1", "name": "lena", "profile": {"real_name": "Lena Fischer"}}]
    users += [{"id": "U2", "name": "omar", "profile": {"real_name": "Omar Haddad"}}]
    lines = [
        {"type": "message", "user": "U1", "text": "The crane is out of order, <@U2>", "ts": "1741080000.000100"},
        {
            "type": "message",
            "user": "U2",
            "text": "A mechanic comes &amp; looks at it tomorrow",
            "ts": "1741080060.0002",
        },
    ]
    channels = [{"id": "C1", "name": "harbour", "topic": {"value": ""}}]
    files = {"users.json": users, "channels.json": channels, "harbour/2025-03-04.json": lines}
    return office.archive({name: json.dumps(content) for name, content in files.items()})


def _notebook() -> bytes:
    output: dict[str, Any] = {"output_type": "stream", "name": "stdout", "text": ["mean draught 3.75\n"]}
    table = {"text/html": ["<table><tr><td>9</td></tr></table>"], "text/plain": ["boats 9"]}
    shown: dict[str, Any] = {"output_type": "execute_result", "execution_count": 2, "metadata": {}, "data": table}
    code = {"cell_type": "code", "execution_count": 1, "metadata": {}}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Draught of boats\n", "\n", "All values in metres."]},
        code | {"source": "print('mean draught', draughts.mean())", "outputs": [output]},
        code | {"source": "count_boats()", "outputs": [shown]},
    ]
    return messages.notebook_of(cells)


def _papers() -> dict[str, bytes]:
    first, second = topics()["clock-museum"], topics()["town-library"]
    return {"a/museum.md": markup.markdown(first), "b/library.html": markup.html(second)}


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as writer:
        for name, data in _papers().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _table(delimiter: str, encoding: str) -> bytes:
    return messages.comma_separated(_ROWS, delimiter).decode().encode(encoding)


def files() -> Iterator[TruthFile]:
    """Yield data files with one fault each."""
    yield TruthFile(
        "menu.json",
        lambda: json.dumps(_JSON).encode(),
        ("Café “Zur Mühle”", "Käsespätzle", "9.5", "Crème brûlée", "6", "Closed on Mondays and holidays"),
        absent=("\\u00", "\\n"),
        fault="escapes",
    )
    yield TruthFile(
        "ships.xml",
        _XML.encode,
        ("Albatros", "Sails & oars", "1911", "Kormoran", "Hull <rotten>"),
        absent=("xmlns", "&amp;", "CDATA", "</name>"),
        fault="tags",
    )
    yield TruthFile(
        "crew.yaml",
        _YAML.encode,
        ("captain", "Solveig Dahl", "2011", "Speaks four languages and plays the accordion."),
        fault="values",
    )
    yield TruthFile(
        "crane.toml", _TOML.encode, ("Mirko Vidal", "42", "Grease the slewing ring weekly."), fault="values"
    )
    for name, delimiter, encoding in (
        ("semicolons.csv", ";", "utf-8"),
        ("utf16.csv", ",", "utf-16"),
        ("tabs.tsv", "\t", "cp1252"),
    ):
        yield TruthFile(
            name,
            partial(_table, delimiter, encoding),
            tuple(cell for row in _ROWS[1:] for cell in row),
            tables=(_ROWS[:2],),
            fault="dialects of CSV",
        )
    yield TruthFile(
        "open-quote.csv",
        'Place,Remark\nAkershus,"never closed\nBodo,plain\nHamar,last row\n'.encode,
        ("Akershus", "never closed", "Bodo", "plain", "Hamar", "last row"),
        fault="dialects of CSV",
    )
    yield TruthFile(
        "draught.ipynb",
        _notebook,
        (
            "Draught of boats",
            "All values in metres.",
            "draughts.mean()",
            "mean draught 3.75",
            "count_boats()",
            "boats 9",
        ),
        ("Draught of boats",),
        absent=("cell_type", "execution_count"),
        fault="code and outputs",
    )
    description = "Bring the charts, the log; and a pencil.\nLunch is provided by the harbour master's office."
    yield TruthFile(
        "meeting.ics",
        lambda: messages.calendar("Pilots' meeting", description, "Quay 4, first floor"),
        ("Pilots' meeting", "Quay 4, first floor", *description.splitlines()),
        absent=("BEGIN:VEVENT", "PRODID", "\\,"),
        fault="folded lines",
    )
    yield TruthFile(
        "contact.vcf",
        _CARD.encode,
        ("Claire Moreau", "Quay Works, Ltd.", "+32 3 555 01 02", "claire@example.org", "Speaks Dutch and Portuguese"),
        absent=("BEGIN:VCARD", "\\,"),
        fault="folded lines",
    )
    yield TruthFile(
        "WhatsApp Chat with Crew.txt",
        lambda: "\n".join(f"{time} - {name}: {text}" for time, name, text in _CHAT).encode(),
        tuple(part for _, name, text in _CHAT for part in (name, text)),
        fault="conversations",
    )
    yield TruthFile(
        "slack-export.zip",
        _slack,
        ("The crane is out of order,", "A mechanic comes & looks at it tomorrow"),
        absent=("<@U2>", "&amp;", '"type"'),
        fault="conversations",
    )
    yield TruthFile(
        "papers.zip",
        lambda: office.archive(_papers()),
        (*topics()["clock-museum"].pieces, *topics()["town-library"].pieces),
        fault="archives",
    )
    yield TruthFile(
        "papers.tgz",
        _tar,
        (*topics()["clock-museum"].pieces, *topics()["town-library"].pieces),
        fault="archives",
    )

"""Further texts, mails and data: other encodings, dialects and structures than those of the other modules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from typing import Any

from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import markup, messages, office

_TEXTS = {
    "cp1253": "Το πλοίο φεύγει το πρωί από το λιμάνι και φτάνει στο νησί το βράδυ.",
    "cp1254": "Gemi sabah limandan ayrılır ve akşam adaya ulaşır; çocuklar güvertede şarkı söyler.",
    "cp1255": "הספינה יוצאת בבוקר מן הנמל ומגיעה אל האי בערב, והילדים שרים על הסיפון.",
    "big5": "圖書館每週一休館,讀者一次可以借五本書,期限為三十天。",
    "euc_jp": "図書館は月曜日が休みです。本は二週間借りることができます。",
    "utf_16_le": "The lock opens at six in the morning and closes at ten at night.",
    "cp866": "Осенью в саду созревают яблоки, и вся семья собирает урожай до первых холодов.",
    "utf_8_sig": "Die Fähre fährt um sieben Uhr – außer sonntags.",
    "cp850": "Das Mädchen fährt über die Brücke und grüßt den Bäcker; später hört es die Glocken läuten.",
}
_PHONE = """[04/03/2025, 18:02:11] Lena: Who has the key
of the boat house?
[04/03/2025, 18:03:40] Omar: It hangs behind the oars.
[04/03/2025, 18:04:02] Lena: <attached: photo.jpg>
[04/03/2025, 18:05:59] Lena: Found it, thanks!
"""
_TASKS = """Winter work
===========

- [x] paint the **hull**
- [ ] oil the ~~old~~ winch

| Tool | Use \\| place |
|:-----|-----:|
| `awl` | sails |
| plane | masts |

!!! warning
    Turpentine burns.

Press <kbd>F5</kbd> and read [the manual][m] or <https://example.org/winch>.

```python
# not a heading
print("anchor")
```

[m]: https://example.org/manual "Manual"
"""
_EVENTS = "\r\n".join(
    (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Oslo\r\nBEGIN:STANDARD",
        "DTSTART:19701025T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nTZNAME:CETZONE\r\nEND:STANDARD",
        "END:VTIMEZONE\r\nBEGIN:VEVENT\r\nUID:7\r\nSUMMARY:Regatta\r\nDTSTART;VALUE=DATE:20250614",
        "ORGANIZER;CN=Solveig Dahl:mailto:solveig@example.org\r\nEND:VEVENT\r\nBEGIN:VTODO\r\nUID:8",
        "SUMMARY:Order new buoys\r\nDUE:20250601T120000Z\r\nEND:VTODO\r\nEND:VCALENDAR\r\n",
    )
)
_CARDS = (
    "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=B8rgensen;Bj=C3=B8rn\r\n"
    "FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Bj=C3=B8rn J=C3=B8rgensen\r\nTITLE:Harbour pilot\r\nEND:VCARD\r\n"
    "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Amina Said\r\nADR:;;Quay Street 9;Lund;;22100;Sweden\r\nEND:VCARD\r\n"
)
_ATOM = """<?xml version="1.0" encoding="ISO-8859-1"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Pegelstände</title><entry><title>Hochwasser an der Weiß</title>
<content type="html">&lt;p&gt;Der Pegel steigt auf &lt;b&gt;4,20 m&lt;/b&gt;.&lt;/p&gt;</content></entry></feed>
"""
_NESTED = {
    "boats": [{"name": "Ægir", "crew": [{"name": "Kari", "role": "skipper"}, {"name": "Ole"}]}],
    "season": [2024, 2025],
}
_PREAMBLE = "Report of the harbour office\n\nBerth;Length;Price\nA1;12;340,00\nA2;9;255,50\n"


def _forwarded() -> bytes:
    inner = messages.message("Storm warning", "Gusts of eleven are expected on Thursday night.\n")
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "Anna <anna@example.org>", "team@example.org", "Fwd: Storm warning"
    mail.set_content("Please double the lines of all boats.\n")
    mail.add_attachment(inner)
    return mail.as_bytes()


def _invited() -> bytes:
    mail = messages.message("Invitation", "See the attached appointment.\n")
    event = messages.calendar("Safety drill", "Bring your life jacket.", "Pier 3")
    mail.add_attachment(event, maintype="text", subtype="calendar", filename="drill.ics")
    return mail.as_bytes()


def _errors() -> bytes:
    code = {"cell_type": "code", "execution_count": 3, "metadata": {}}
    trace = ["\x1b[0;31mValueError\x1b[0m: depth must be positive"]
    error = {"output_type": "error", "ename": "ValueError", "evalue": "depth must be positive", "traceback": trace}
    table = {"text/html": ["<table><tr><th>port</th></tr><tr><td>Narvik</td></tr></table>"]}
    shown = {"output_type": "display_data", "metadata": {}, "data": table}
    return messages.notebook_of(
        [
            {"cell_type": "raw", "metadata": {}, "source": "Raw remark on depths"},
            code | {"source": "sound(-3)", "outputs": [error]},
            code | {"source": "ports", "outputs": [shown]},
        ]
    )


def _threads() -> bytes:
    users = [{"id": "U1", "name": "lena", "profile": {"display_name": "Lena"}}, {"id": "U2", "name": "omar"}]
    block = {"type": "rich_text", "elements": []}
    lines = [
        {"type": "message", "user": "U1", "text": "Who repairs *pump 2*?", "ts": "1741080000.1", "blocks": [block]},
        {"type": "message", "user": "U2", "text": "I do, see <https://example.org/p|the plan>", "ts": "1741080090.1"}
        | {"thread_ts": "1741080000.1"},
        {"type": "message", "subtype": "channel_join", "user": "U2", "text": "<@U2> has joined", "ts": "1741080001.1"},
    ]
    files = {"users.json": users, "channels.json": [{"id": "C1", "name": "pumps"}], "pumps/2025-03-04.json": lines}
    return office.archive({f"export/{name}": json.dumps(content) for name, content in files.items()})


def _nested_zip() -> bytes:
    inner = office.archive({"deep/wine.md": markup.markdown(topics()["wine-cellar"])})
    return office.archive(
        {"inner.zip": inner, "readme.txt": "Cellar book of the year 2019", "__MACOSX/._readme.txt": "x"}
    )


def _file(
    name: str, fault: str, text: str, *pieces: str, absent: str = "", headings: tuple[str, ...] = ()
) -> TruthFile:
    hidden = tuple(absent.split("|")) if absent else ()
    return TruthFile(name, text.encode, pieces, headings, absent=hidden, fault=fault)


def _output_forms() -> bytes:
    forms: list[dict[str, Any]] = [
        {"application/json": {"draught": 3.75}, "text/plain": "<IPython.core.display.JSON object>"},
        {"text/latex": "$d = 15 / 4$", "text/plain": "<IPython.core.display.Math object>"},
        {"text/markdown": "All boats float.", "text/plain": "<IPython.core.display.Markdown object>"},
        {"text/html": "<b>Sum of all boats</b>", "text/plain": "<IPython.core.display.HTML object>"},
    ]
    outputs = [{"output_type": "display_data", "metadata": {}, "data": data} for data in forms]
    return messages.notebook_of([None, {"cell_type": "code", "source": "show()", "outputs": outputs}])


def files() -> Iterator[TruthFile]:
    """Yield texts, mails and data with one fault each."""
    for encoding, text in _TEXTS.items():
        build = partial(text.encode, encoding)
        yield TruthFile(f"{encoding.replace('_', '-')}.txt", build, (text,), fault="encodings")
    yield _file(
        "_chat.txt",
        "conversations",
        _PHONE,
        *("Lena", "Who has the key of the boat house?", "Omar", "It hangs behind the oars.", "Found it, thanks!"),
    )
    yield _file(
        "tasks.md",
        "tasks, escapes and keys",
        _TASKS,
        *("Winter work", "paint the hull", "oil the old winch", "awl sails plane masts", "Turpentine burns."),
        *("Press F5 and read the manual", 'print("anchor")'),
        headings=("Winter work",),
        absent="<kbd>",
    )
    yield _file(
        "regatta.ics",
        "several events",
        _EVENTS,
        *("Regatta", "Solveig Dahl", "Order new buoys"),
        absent="CETZONE|BEGIN:",
    )
    yield _file(
        "cards.vcf",
        "versions of cards",
        _CARDS,
        *("Bjørn Jørgensen", "Harbour pilot", "Amina Said", "Quay Street 9 Lund 22100 Sweden"),
        absent="=C3|BEGIN:",
    )
    yield TruthFile(
        "feed.xml",
        partial(_ATOM.encode, "latin-1"),
        ("Pegelstände", "Hochwasser an der Weiß", "Der Pegel steigt auf 4,20 m."),
        absent=("xmlns", "&lt;", "<b>"),
        fault="markup in texts",
    )
    yield _file(
        "boats.json",
        "nested values",
        json.dumps(_NESTED),
        *("Ægir", "Kari skipper", "Ole", "2024", "2025"),
        absent="\\u00|{",
    )
    yield TruthFile(
        "berths.csv",
        _PREAMBLE.encode,
        ("Report of the harbour office", "A1 12 340,00", "A2 9 255,50"),
        tables=((("Berth", "Length", "Price"), ("A1", "12", "340,00"), ("A2", "9", "255,50")),),
        fault="lines above a table",
    )
    yield TruthFile(
        "forwarded.eml",
        _forwarded,
        ("Storm warning", "Please double the lines of all boats.", "Gusts of eleven are expected on Thursday night."),
        absent=("MIME-Version",),
        fault="mails in mails",
    )
    yield TruthFile(
        "invited.eml",
        _invited,
        ("Invitation", "See the attached appointment.", "Safety drill", "Pier 3", "Bring your life jacket."),
        absent=("BEGIN:VEVENT", "MIME-Version"),
        fault="appointments in mails",
    )
    yield TruthFile(
        "errors.ipynb",
        _errors,
        ("Raw remark on depths", "sound(-3)", "ValueError", "depth must be positive", "ports", "Narvik"),
        absent=("\x1b[", "traceback", "<td>"),
        fault="errors and tables as outputs",
    )
    yield TruthFile(
        "forms.ipynb",
        _output_forms,
        ("show()", "draught", "3.75", "$d = 15 / 4$", "All boats float.", "Sum of all boats"),
        absent=("IPython", "application/json", "<b>"),
        fault="forms of outputs",
    )
    yield TruthFile(
        "cut.ics",
        lambda: messages.calendar("Low tide walk", "Bring boots. Dogs stay at home.", "Slipway").partition(
            b"END:VEVENT"
        )[0],
        ("Low tide walk", "Slipway", "Bring boots. Dogs stay at home."),
        absent=("BEGIN:VEVENT",),
        fault="files that are cut off",
    )
    yield TruthFile(
        "threads.zip",
        _threads,
        ("Who repairs pump 2?", "I do, see", "the plan"),
        absent=("<@U2>", '"type"', "<https"),
        fault="conversations",
    )
    yield TruthFile(
        "nested.zip",
        _nested_zip,
        (*topics()["wine-cellar"].pieces, "Cellar book of the year 2019"),
        fault="archives in archives",
    )

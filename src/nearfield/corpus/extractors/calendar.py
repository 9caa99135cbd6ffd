"""Extractors for calendars (``.ics``) and address books (``.vcf``): each entry as a section of its fields."""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text_encoding import decode, decode_as
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

#: Properties of entries that a reader sees, in order, with their labels.
_EVENT_FIELDS = {
    "DTSTART": "Start", "DTEND": "End", "DUE": "Due", "DURATION": "Duration", "RRULE": "Repeats",
    "LOCATION": "Location", "ORGANIZER": "Organizer", "ATTENDEE": "Attendees", "STATUS": "Status",
    "CATEGORIES": "Categories", "URL": "URL", "CONTACT": "Contact", "COMMENT": "Comment", "RESOURCES": "Resources",
}  # fmt: skip
_CARD_FIELDS = {
    "N": "Name", "NICKNAME": "Nickname", "ORG": "Organization", "TITLE": "Title", "ROLE": "Role", "TEL": "Phone",
    "EMAIL": "E-mail", "ADR": "Address", "URL": "URL", "BDAY": "Birthday", "ANNIVERSARY": "Anniversary",
    "CATEGORIES": "Categories", "IMPP": "Messenger", "LANG": "Language", "RELATED": "Related", "NOTE": "Note",
}  # fmt: skip
#: Components that a reader sees as entries; alarms and time zones are parts or data.
_ENTRIES = ("VEVENT", "VTODO", "VJOURNAL")
_STRUCTURED = ("N", "ADR", "ORG")
_LINE = re.compile(r"(?:[\w-]+\.)?([\w-]+)((?:;(?:\"[^\"]*\"|[^:\"])*)?):(.*)", re.DOTALL)
_PARAMETER = re.compile(r";([\w-]+)(?:=(\"[^\"]*\"|[^;]*))?")
_ESCAPE = re.compile(r"\\([\\;,nN])")
_TIME = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_WEEKDAYS = {
    "MO": "Monday", "TU": "Tuesday", "WE": "Wednesday", "TH": "Thursday", "FR": "Friday", "SA": "Saturday",
    "SU": "Sunday",
}  # fmt: skip


@dataclass(frozen=True)
class ContentProperty:
    """One property of an entry, such as ``DTSTART``, with its parameters in upper case."""

    name: str
    parameters: dict[str, str]
    value: str


class CalendarExtractor(Extractor):
    """Calendars in iCalendar format (RFC 5545)."""

    suffixes = dict.fromkeys((".ics", ".ical", ".ifb"), "text/calendar")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return events, tasks and journal entries as sections."""
        properties = list(_properties(decode(data, name)))
        builder = DocumentBuilder()
        title = next((_text(item.value) for item in properties if item.name == "X-WR-CALNAME"), "")
        for entry in _entries(properties, _ENTRIES, name):
            summary = next((_text(item.value) for item in entry if item.name == "SUMMARY"), "") or "Without title"
            builder.heading(summary, 2)
            builder.add("\n".join(_lines(entry, _EVENT_FIELDS)))
            for item in entry:
                if item.name == "DESCRIPTION":
                    builder.add(_text(item.value))
        _count(builder, properties)
        return builder.document("markdown", title)


class ContactExtractor(Extractor):
    """Address books in vCard format (RFC 6350, and versions 2.1 and 3.0)."""

    suffixes = dict.fromkeys((".vcf", ".vcard"), "text/vcard")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return each contact as a section."""
        properties = list(_properties(decode(data, name)))
        builder = DocumentBuilder()
        pictures = 0
        for entry in _entries(properties, ("VCARD",), name):
            values = {item.name: item.value for item in reversed(entry)}
            names = [part for part in _parts(values.get("N", "")) if part]
            heading = _text(values.get("FN", "")) or " ".join(names) or _text(values.get("ORG", "")) or "Without name"
            builder.heading(heading, 2)
            builder.add("\n".join(_lines(entry, _CARD_FIELDS)))
            pictures += sum(item.name in ("PHOTO", "LOGO") for item in entry)
        _count(builder, properties)
        if pictures:
            builder.losses.append(Loss(f"{pictures} picture{'s' if pictures > 1 else ''} without a description"))
        return builder.document("markdown")


def _properties(text: str) -> Iterator[ContentProperty]:
    """Yield the properties of a file, whose long lines are folded."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        soft = bool(lines) and lines[-1].endswith("=") and "QUOTED-PRINTABLE" in lines[-1].partition(":")[0].upper()
        if lines and (soft or line.startswith((" ", "\t"))):
            lines[-1] = lines[-1][:-1] + "=\n" + line if soft else lines[-1] + line[1:]
        else:
            lines.append(line)
    for line in lines:
        match = _LINE.fullmatch(line)
        if match:
            parameters = {name.upper(): value.strip('"') for name, value in _PARAMETER.findall(match[2])}
            yield ContentProperty(match[1].upper(), parameters, _decoded(match[3], parameters))


def _decoded(value: str, parameters: dict[str, str]) -> str:
    """Return a value without quoted-printable, which version 2.1 of vCard uses."""
    if "QUOTED-PRINTABLE" not in (parameters.get("ENCODING", "").upper(), *parameters):
        return value
    data = quopri.decodestring(value.encode("utf-8", "replace"))
    return decode_as(data, parameters.get("CHARSET", "utf-8")) or ""


def _entries(properties: Sequence[ContentProperty], kinds: Sequence[str], name: str) -> Iterator[list[ContentProperty]]:
    """Yield the properties of each entry, without those of components within it.

    Raises:
        InputError: there is no entry.
    """
    stack: list[str] = []
    entry: list[ContentProperty] = []
    count = 0
    for item in properties:
        component = item.value.strip().upper()
        if item.name == "BEGIN":
            stack.append(component)
            entry = [] if component in kinds else entry
        elif item.name == "END":
            if component in stack:
                if component in kinds:
                    count += 1
                    yield entry
                del stack[stack.index(component) :]
        elif stack and stack[-1] in kinds:
            entry.append(item)
    if not count:
        raise InputError(f"{name}: damaged, or it has no entries.")


def _lines(entry: Sequence[ContentProperty], fields: dict[str, str]) -> Iterator[str]:
    """Yield a line for each field that an entry has."""
    for field, label in fields.items():
        values = [_shown(item) for item in entry if item.name == field]
        values = [value for value in values if value]
        if values:
            yield f"{label}: {', '.join(dict.fromkeys(values))}"


def _shown(item: ContentProperty) -> str:
    """Return a value as a reader sees it."""
    if item.name in ("DTSTART", "DTEND", "DUE"):
        return _moment(item)
    if item.name in ("BDAY", "ANNIVERSARY"):
        return re.sub(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", item.value)
    if item.name == "RRULE":
        return _repetition(item.value)
    if item.name in ("ORGANIZER", "ATTENDEE"):
        address = re.sub("^mailto:", "", item.value, flags=re.IGNORECASE)
        person = item.parameters.get("CN", "")
        return f"{person} <{address}>" if person and person != address else address
    if item.name in _STRUCTURED:
        return ", ".join(part for part in _parts(item.value) if part)
    value = _text(re.sub("^tel:", "", item.value) if item.name == "TEL" else item.value)
    kinds = [kind.lower() for kind in item.parameters.get("TYPE", "").split(",") if kind.lower() in _SHOWN_TYPES]
    kinds += [name.lower() for name in item.parameters if name.lower() in _SHOWN_TYPES]
    return f"{value} ({', '.join(dict.fromkeys(kinds))})" if kinds and value else value


_SHOWN_TYPES = ("work", "home", "cell", "fax", "mobile", "pager")


def _moment(item: ContentProperty) -> str:
    match = _TIME.fullmatch(item.value.strip())
    if match is None:
        return item.value
    try:
        day = datetime.strptime(match[1], "%Y%m%d")
    except ValueError:
        return item.value
    text = f"{day:%Y-%m-%d} ({day:%A})"
    if match[2]:
        text = f"{text} {match[2][:2]}:{match[2][2:4]}"
    zone = "UTC" if match[3] else item.parameters.get("TZID", "")
    return f"{text} {zone}".strip()


def _repetition(value: str) -> str:
    """Return a rule of repetition in words, such as "weekly on Monday until 2026-05-01"."""
    rule = dict(part.split("=", 1) for part in value.split(";") if "=" in part)
    words = [rule.pop("FREQ", "").lower()]
    if "INTERVAL" in rule:
        words.append(f"every {rule.pop('INTERVAL')}")
    if "BYDAY" in rule:
        days = re.sub(r"[A-Z]{2}", lambda match: _WEEKDAYS.get(match[0], match[0]), rule.pop("BYDAY"))
        words.append(f"on {days.replace(',', ', ')}")
    if "COUNT" in rule:
        words.append(f"{rule.pop('COUNT')} times")
    if "UNTIL" in rule:
        words.append("until " + re.sub(r"^(\d{4})(\d{2})(\d{2}).*", r"\1-\2-\3", rule.pop("UNTIL")))
    rule.pop("WKST", None)
    return " ".join([*words, *(f"{name.lower()} {part}" for name, part in rule.items())]).strip()


def _text(value: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value).strip()


def _parts(value: str) -> list[str]:
    """Return the parts of a value of several, such as an address."""
    return [_text(part) for part in re.split(r"(?<!\\);", value)]


def _count(builder: DocumentBuilder, properties: Sequence[ContentProperty]) -> None:
    """Set the visible words: those of all properties that are texts, wherever they are."""
    texts = ("SUMMARY", "DESCRIPTION", "LOCATION", "COMMENT", "FN", "NOTE", "TITLE", "ROLE", "ORG", "ADR", "EMAIL")
    words, in_alarm = 0, False
    for item in properties:
        if item.value.strip().upper() == "VALARM":
            in_alarm = item.name == "BEGIN"
        if item.name in texts and not in_alarm:
            words += count_words(_text(item.value))
    builder.visible_words = words

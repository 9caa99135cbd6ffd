"""Extractors for calendars (``.ics``) and address books (``.vcf``): each entry as a section of its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.content_lines import (
    TEXTS,
    ContentLines,
    ContentProperty,
    decoded_text,
    read_lines,
    split_entries,
)
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

#: Properties of entries that a reader sees, in order, with their labels.
_EVENT_FIELDS = {
    "DTSTART": "Start", "DTEND": "End", "DUE": "Due", "DURATION": "Duration", "RRULE": "Repeats",
    "RDATE": "Also on", "EXDATE": "Except on", "COMPLETED": "Completed", "PERCENT-COMPLETE": "Percent complete",
    "FREEBUSY": "Busy", "LOCATION": "Location", "ORGANIZER": "Organizer", "ATTENDEE": "Attendees",
    "STATUS": "Status", "CATEGORIES": "Categories", "URL": "URL", "CONTACT": "Contact", "COMMENT": "Comment",
    "RESOURCES": "Resources", "CONFERENCE": "Conference", "ATTACH": "Attached",
}  # fmt: skip
_CARD_FIELDS = {
    "N": "Name", "NICKNAME": "Nickname", "ORG": "Organization", "TITLE": "Title", "ROLE": "Role", "TEL": "Phone",
    "EMAIL": "E-mail", "ADR": "Address", "LABEL": "Address label", "URL": "URL", "BDAY": "Birthday",
    "ANNIVERSARY": "Anniversary", "CATEGORIES": "Categories", "IMPP": "Messenger", "LANG": "Language",
    "RELATED": "Related", "MEMBER": "Member", "X-SOCIALPROFILE": "Profile", "SOCIALPROFILE": "Profile",
    "HOBBY": "Hobby", "INTEREST": "Interest", "EXPERTISE": "Expertise", "X-SPOUSE": "Spouse",
    "X-MANAGER": "Manager", "X-ASSISTANT": "Assistant", "X-ABRELATEDNAMES": "Related", "X-ABDATE": "Date",
    "NOTE": "Note",
}  # fmt: skip
#: Components that a reader sees as entries; alarms and time zones are parts or data.
_ENTRIES = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY")
_STRUCTURED = ("N", "ADR", "ORG")
_ESCAPE = re.compile(r"\\([\\;,nN])")
_TIME = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_WEEKDAYS = {
    "MO": "Monday", "TU": "Tuesday", "WE": "Wednesday", "TH": "Thursday", "FR": "Friday", "SA": "Saturday",
    "SU": "Sunday",
}  # fmt: skip


class CalendarExtractor(Extractor):
    """Calendars in iCalendar format (RFC 5545)."""

    suffixes = dict.fromkeys((".ics", ".ical", ".ifb"), "text/calendar")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return events, tasks and journal entries as sections."""
        lines = read_lines(data, name)
        builder = DocumentBuilder()
        title = next((_text(item) for item in lines.properties if item.name == "X-WR-CALNAME"), "")
        about = next((_text(item) for item in lines.properties if item.name == "X-WR-CALDESC"), "")
        entries = _entries(lines, _ENTRIES, name, builder)
        builder.add(about)
        for entry in entries:
            builder.heading(_first(entry, "SUMMARY") or "Without title", 2)
            builder.add("\n".join(_lines(entry, _EVENT_FIELDS)))
            for text in _descriptions(entry):
                builder.add(text)
        _see_texts(builder, lines.properties)
        return builder.document("markdown", title)


class ContactExtractor(Extractor):
    """Address books in vCard format (RFC 6350, and versions 2.1 and 3.0)."""

    suffixes = dict.fromkeys((".vcf", ".vcard"), "text/vcard")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return each contact as a section."""
        lines = read_lines(data, name)
        builder = DocumentBuilder()
        pictures = 0
        for entry in _entries(lines, ("VCARD",), name, builder):
            names = [part for item in entry if item.name == "N" for part in _parts(item) if part]
            heading = _first(entry, "FN") or " ".join(names) or _first(entry, "ORG") or "Without name"
            builder.heading(heading, 2)
            builder.add("\n".join(_lines(entry, _CARD_FIELDS)))
            pictures += sum(item.name in ("PHOTO", "LOGO") for item in entry)
        _see_texts(builder, lines.properties)
        if pictures:
            builder.losses.append(Loss(f"{pictures} picture{'s' if pictures > 1 else ''} without a description"))
        return builder.document("markdown")


def _entries(
    lines: ContentLines, kinds: Sequence[str], name: str, builder: DocumentBuilder
) -> list[list[ContentProperty]]:
    """Return the properties of each entry; what is missing becomes losses.

    Raises:
        InputError: there is no entry.
    """
    split = split_entries(lines.properties, kinds)
    if not split.entries:
        raise InputError(f"{name}: damaged, or it has no entries.")
    advice = "Export or download the file again."
    if split.unended:
        plural = "entries that are" if split.unended > 1 else "entry that is"
        builder.losses.append(Loss(f"the end of {split.unended} {plural} cut off", advice=advice))
    elif split.is_cut:
        builder.losses.append(Loss("what follows the last entry: the file is cut off", advice=advice))
    if lines.damaged:
        count = len(lines.damaged)
        words = sum(map(count_words, lines.damaged))
        builder.losses.append(Loss(f"{count} damaged line{'s' if count > 1 else ''}", words, advice=advice))
    return split.entries


def _first(entry: Sequence[ContentProperty], name: str) -> str:
    return next((_text(item) for item in entry if item.name == name), "")


def _descriptions(entry: Sequence[ContentProperty]) -> list[str]:
    """Return the descriptions of an entry; the one in HTML only where there is no plain one."""
    plain = [_text(item) for item in entry if item.name == "DESCRIPTION"]
    if any(plain):
        return plain
    pages = [_text(item) for item in entry if item.name in ("X-ALT-DESC", "STYLED-DESCRIPTION")]
    return [_page_text(page) if "<" in page else page for page in pages]


def _page_text(markup: str) -> str:
    try:
        return HtmlExtractor().parse(markup.encode("utf-8", "replace"), "description.html").text
    except InputError:  # it shows no text
        return ""


def _lines(entry: Sequence[ContentProperty], fields: dict[str, str]) -> Iterator[str]:
    """Yield a line for each field that an entry has."""
    for field, label in fields.items():
        values = [_shown(item) for item in entry if item.name == field]
        values = [value for value in values if value]
        if values:
            yield f"{label}: {', '.join(dict.fromkeys(values))}"


def _shown(item: ContentProperty) -> str:
    """Return a value as a reader sees it."""
    if item.name in ("DTSTART", "DTEND", "DUE", "COMPLETED", "RDATE", "EXDATE"):
        return ", ".join(_moment(value, item.parameters.get("TZID", "")) for value in item.value.split(","))
    if item.name == "ATTACH":
        return "" if "ENCODING" in item.parameters or item.value.lower().startswith("cid:") else item.value
    if item.name in ("BDAY", "ANNIVERSARY"):
        return re.sub(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", item.value)
    if item.name == "RRULE":
        return _repetition(item.value)
    if item.name in ("ORGANIZER", "ATTENDEE"):
        address = re.sub("^mailto:", "", item.value, flags=re.IGNORECASE)
        person = item.parameters.get("CN", "")
        return f"{person} <{address}>" if person and person != address else address
    if item.name in _STRUCTURED:
        return ", ".join(part for part in _parts(item) if part)
    value = re.sub("^tel:", "", _text(item)) if item.name == "TEL" else _text(item)
    kinds = [kind.lower() for kind in item.parameters.get("TYPE", "").split(",") if kind.lower() in _SHOWN_TYPES]
    kinds += [name.lower() for name in item.parameters if name.lower() in _SHOWN_TYPES]
    return f"{value} ({', '.join(dict.fromkeys(kinds))})" if kinds and value else value


_SHOWN_TYPES = ("work", "home", "cell", "fax", "mobile", "pager")


def _moment(value: str, zone: str) -> str:
    match = _TIME.fullmatch(value.strip())
    if match is None:
        return value
    try:
        day = datetime.strptime(match[1], "%Y%m%d")
    except ValueError:
        return value
    text = f"{day:%Y-%m-%d} ({day:%A})"
    if match[2]:
        text = f"{text} {match[2][:2]}:{match[2][2:4]}"
    return f"{text} {'UTC' if match[3] else zone}".strip()


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


def _text(item: ContentProperty) -> str:
    return _unescaped(decoded_text(item))


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value).strip()


def _parts(item: ContentProperty) -> list[str]:
    """Return the parts of a value of several, such as an address."""
    return [_unescaped(part) for part in re.split(r"(?<!\\);", decoded_text(item))]


def _see_texts(builder: DocumentBuilder, properties: Sequence[ContentProperty]) -> None:
    """Count the words that a reader sees: those of all properties that are texts, wherever they are."""
    texts = TEXTS - {"X-ALT-DESC", "STYLED-DESCRIPTION"}
    in_alarm = False
    for item in properties:
        if item.value.strip().upper() == "VALARM":
            in_alarm = item.name == "BEGIN"
        if item.name in texts and not in_alarm:
            builder.see(_text(item))

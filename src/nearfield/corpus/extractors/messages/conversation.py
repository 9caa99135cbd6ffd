"""Extractors for exported conversations, Slack channels and WhatsApp chats: times, speakers, a heading for each day."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import unescape
from pathlib import PurePosixPath
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError


@dataclass(frozen=True)
class ChatMessage:
    """A message of a conversation; ``speaker`` is empty for what the program says."""

    day: str
    time: str
    speaker: str
    text: str


def add_messages(builder: DocumentBuilder, messages: Iterator[ChatMessage]) -> int:
    """Add messages under a heading for each day; return their number."""
    day, count = "", 0
    for count, message in enumerate(messages, 1):  # noqa: B007 - the number of the last one
        if message.day != day:
            day = message.day
            builder.heading(day, 2)
        speaker = f" {message.speaker}:" if message.speaker else ""
        builder.add(f"{message.time}{speaker} {message.text.strip()}")
    return count


# -- Slack ---------------------------------------------------------------------------------------------------------

_MENTION = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


class SlackExtractor(Extractor):
    """A channel of a Slack export, as ``sources.slack_export`` bundles it."""

    suffixes = dict.fromkeys((".slack-channel",), "application/x-slack-channel")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:  # noqa: ARG002 - the bundle names the channel
        """Return the messages in order, with the names of their authors; times are UTC."""
        bundle = json.loads(data)
        people = {person["id"]: _person(person) for person in bundle["lists"].get("users.json", [])}
        messages = [message for day in bundle["days"] for message in day if isinstance(message, dict)]
        messages.sort(key=lambda message: float(message.get("ts", 0)))
        builder = DocumentBuilder()
        title, about = _channel(bundle, people)
        builder.heading(title, 1)
        for text in about:
            builder.add(_slack_text(text, people))
        add_messages(builder, _slack_messages(messages, people))
        files = [file for message in messages for file in message.get("files") or () if isinstance(file, dict)]
        if files:
            plural = "s" if len(files) > 1 else ""
            builder.losses.append(Loss(f"{len(files)} attached file{plural} (the export has links only)"))
        builder.visible_words = count_words(title) + sum(
            count_words(_MENTION.sub(" ", str(message.get("text", "")))) for message in messages
        )
        return builder.document("markdown", title)


def _person(person: Mapping[str, Any]) -> str:
    profile = person.get("profile") or {}
    names = (profile.get("real_name"), person.get("real_name"), profile.get("display_name"), person.get("name"))
    return next((str(name) for name in names if name), str(person.get("id", "")))


def _channel(bundle: Mapping[str, Any], people: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a channel's title, and its topic and purpose."""
    name = str(bundle["channel"])
    entries = [entry for entries in bundle["lists"].values() for entry in entries if isinstance(entry, dict)]
    entry = next(
        (entry for entry in entries if name in (entry.get("name"), entry.get("id")) and "members" in entry), {}
    )
    if entry and not entry.get("name"):  # direct messages have the names of their members
        return ", ".join(people.get(member, member) for member in entry["members"]), []
    texts = [(entry.get(field) or {}).get("value", "") for field in ("topic", "purpose")]
    return f"#{name}", [text for text in dict.fromkeys(texts) if text]


def _slack_messages(messages: Sequence[Mapping[str, Any]], people: Mapping[str, str]) -> Iterator[ChatMessage]:
    for message in messages:
        moment = datetime.fromtimestamp(float(message.get("ts", 0)), timezone.utc)
        user = str(message.get("user") or message.get("bot_id") or "")
        profile = message.get("user_profile") or message.get("bot_profile") or {}
        speaker = people.get(user) or profile.get("real_name") or message.get("username") or profile.get("name") or user
        parts = [str(message.get("text") or "")]
        for attached in message.get("attachments") or ():
            shown = [str(attached[field]) for field in ("title", "text") if attached.get(field)]
            parts += shown or [str(attached.get("fallback") or "")]
        parts += [
            f"[file: {file.get('title') or file.get('name') or 'without a name'}]"
            for file in message.get("files") or ()
        ]
        text = "\n".join(part for part in dict.fromkeys(parts) if part.strip())
        is_reply = message.get("thread_ts") not in (None, message.get("ts"))
        if text:
            shown_time = f"{moment:%H:%M}{' (reply)' if is_reply else ''}"
            yield ChatMessage(f"{moment:%Y-%m-%d}", shown_time, str(speaker), _slack_text(text, people))


def _slack_text(text: str, people: Mapping[str, str]) -> str:
    """Return a text with names for mentions, and labels for links."""

    def shown(match: re.Match[str]) -> str:
        sign, target, label = match.groups()
        if sign == "@":
            return f"@{label or people.get(target, target)}"
        if sign == "#":
            return f"#{label or target}"
        if sign == "!":
            return f"@{label or target.partition('^')[0]}"
        return (
            f"{label} ({target})" if label and label != target and not target.startswith("mailto:") else label or target
        )

    return unescape(_MENTION.sub(shown, text))


# -- WhatsApp ------------------------------------------------------------------------------------------------------

_START = re.compile(
    r"^[\u200e\u200f\ufeff]*\[?(?P<day>\d{1,4}[./-]\d{1,2}[./-]\d{1,4}),?[ \u00a0]"
    r"(?:(?:à|at|um|om|alle|a las|às|kl\.?)[ \u00a0])?"
    r"(?P<time>\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[ \u00a0\u202f]?[AaPp]\.?[ \u00a0]?[Mm]\.?)?)"
    r"(?:\][ \u00a0]|[ \u00a0]-[ \u00a0])"
    r"(?P<rest>.*)$"
)
_SPEAKER = re.compile(r"[\u200e\u200f~\u202f ]*([^:\n]{1,80}): (.*)", re.DOTALL)
_MARKS = re.compile("[\u200e\u200f\u202a-\u202c]")
_MEDIA = re.compile(
    r"<[^<>\n]*(?:omitted|attached|ausgeschlossen|weggelassen|omis|omess|omitid)[^<>\n]*>|"
    r"\b[\w ]{3,30} (?:omitted|weggelassen|omise?|omesso|omessa|omitid[oa])\s*$|"
    r"\((?:file attached|Datei angehängt|fichier joint|archivo adjunto|file allegato)\)",
    re.IGNORECASE | re.MULTILINE,
)


class WhatsappExtractor(Extractor):
    """Chats that WhatsApp exports as text. They are recognised by their lines."""

    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the messages, with a heading for each day."""
        text = decode(data, name)
        messages = list(_chat_messages(text))
        if not messages:
            raise InputError(f"{name}: no messages of a chat.")
        builder = DocumentBuilder()
        title = _chat_title(name)
        builder.heading(title, 1)
        add_messages(builder, iter(messages))
        starts = re.compile(_START.pattern.replace("(?P<rest>.*)$", ""), re.MULTILINE)
        builder.visible_words = count_words(starts.sub("", text))
        if count := sum(bool(_MEDIA.search(message.text)) for message in messages):
            plural = "s" if count > 1 else ""
            builder.losses.append(Loss(f"{count} picture{plural} or other media that the export leaves out"))
        return builder.document("markdown", title)


def looks_like_chat(start: bytes) -> bool:
    """Return whether the first bytes of a text are those of a WhatsApp chat."""
    lines = [line for line in start.decode("utf-8", "ignore").splitlines() if line.strip()] or [""]
    matches = [match for line in lines if (match := _START.match(line))]
    return bool(_START.match(lines[0])) and any(_SPEAKER.match(match["rest"]) for match in matches) and len(matches) > 1


def _chat_messages(text: str) -> Iterator[ChatMessage]:
    """Yield messages; a line without time belongs to the message before it."""
    lines = text.replace("\r\n", "\n").split("\n")
    matches = [_START.match(line) for line in lines]
    day_first = _day_first([match["day"] for match in matches if match])
    current: list[str] = []
    start: re.Match[str] | None = None
    for line, match in zip([*lines, ""], [*matches, None], strict=True):
        if match is None:
            current.append(line)
            continue
        if start is not None:
            yield _chat_message(start, current, day_first)
        start, current = match, [match["rest"]]
    if start is not None:
        yield _chat_message(start, current, day_first)


def _chat_message(start: re.Match[str], lines: Sequence[str], day_first: bool | None) -> ChatMessage:
    text = _MARKS.sub("", "\n".join(lines)).strip()
    match = _SPEAKER.fullmatch(text)
    speaker, said = (match[1].strip(), match[2]) if match else ("", text)
    time = re.sub("[\u00a0\u202f]", " ", start["time"])
    return ChatMessage(_iso_day(start["day"], day_first), time, speaker, said)


def _day_first(days: Sequence[str]) -> bool | None:
    """Return whether days come before months, if a number above 12 shows it; None if none does."""
    numbers = [[int(part) for part in re.split("[./-]", day)] for day in days]
    if any(parts[0] > 12 for parts in numbers if parts[0] < 32):
        return True
    if any(parts[1] > 12 for parts in numbers):
        return False
    return True if any("." in day for day in days) else None


def _iso_day(day: str, day_first: bool | None) -> str:
    """Return a day as year, month and day; as it is written if its order is unknown."""
    first, second, last = (int(part) for part in re.split("[./-]", day))
    if first > 31:
        return f"{first:04}-{second:02}-{last:02}"
    if day_first is None:
        return day
    month, number = (second, first) if day_first else (first, second)
    return f"{last + 2000 if last < 100 else last:04}-{month:02}-{number:02}"


def _chat_title(name: str) -> str:
    """Return a chat's title by the name of its file, or of the archive around it."""
    parts = [part for part in re.split(r"!/|/", name) if part]
    stem = PurePosixPath(parts[-1]).stem
    if stem.strip("_").lower() == "chat" and len(parts) > 1:
        stem = PurePosixPath(parts[-2]).stem
    return stem.strip("_ ")

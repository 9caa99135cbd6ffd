"""Extractors for exported conversations, Slack channels and WhatsApp chats: times, speakers, a heading for each day."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.messages.slack_messages import SlackMessage, SlackTexts, dictionaries, dictionary
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

#: Seconds of a time that dates can have (the year 5138).
_MAX_SECONDS = 1e11


class SlackExtractor(Extractor):
    """A channel of a Slack export, as ``sources.slack_export`` bundles it."""

    suffixes = dict.fromkeys((".slack-channel",), "application/x-slack-channel")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:  # noqa: ARG002 - the bundle names the channel
        """Return the messages in order, with the names of their authors; times are UTC."""
        bundle = json.loads(data)
        lists = {name: dictionaries(entries) for name, entries in bundle["lists"].items()}
        people = {str(person["id"]): _person(person) for person in lists.get("users.json", ()) if "id" in person}
        messages = _current_messages([message for day in bundle["days"] for message in dictionaries(day)])
        texts = SlackTexts(people)
        builder = DocumentBuilder()
        title, about = _channel(str(bundle["channel"]), lists, people)
        builder.heading(title, 1)
        for text in about:
            builder.add(texts.plain(text))
        add_messages(builder, _slack_messages(messages, people, texts))
        builder.losses += _slack_losses(bundle, messages, texts)
        for text in (title, *(texts.plain(str(message.get("text") or "")) for message in messages)):
            builder.see(text)
        return builder.document("markdown", title)


def _slack_losses(bundle: Mapping[str, Any], messages: Sequence[SlackMessage], texts: SlackTexts) -> list[Loss]:
    damaged = [str(name) for name in bundle.get("damaged", ())]
    losses = [Loss(f"{name} (damaged)", advice="Export the workspace again.") for name in damaged]
    count = sum(not isinstance(day, list) for day in bundle["days"])
    count += sum(not isinstance(item, dict) for day in bundle["days"] if isinstance(day, list) for item in day)
    if count:
        losses.append(Loss(f"{count} message{'s' if count > 1 else ''} or days of messages that are damaged"))
    files = sum(len(dictionaries(message.get("files"))) for message in messages)
    if files:
        losses.append(Loss(f"{files} attached file{'s' if files > 1 else ''} (the export has links only)"))
    for kind, number in texts.unread.items():
        losses.append(Loss(f"{number} {kind}"))
    return losses


def _current_messages(messages: Sequence[SlackMessage]) -> list[SlackMessage]:
    """Return the messages in order, each as it was edited last; some exports have the edits beside them."""
    current: dict[str, SlackMessage] = {}
    for number, message in enumerate(sorted(messages, key=_seconds)):
        edited, removed = message.get("message"), str(message.get("deleted_ts"))
        previous = message.get("previous_message")
        if message.get("subtype") == "message_changed" and isinstance(edited, dict):
            current[str(edited.get("ts"))] = {**edited, "edited": True}
        elif message.get("subtype") == "message_deleted":
            before = current.get(removed) or (previous if isinstance(previous, dict) else message)
            current[removed] = {**before, "deleted": True}
        else:
            stated = str(message.get("ts"))
            current[f"message {number}" if stated in current else stated] = message
    return sorted(current.values(), key=_seconds)


def _seconds(message: SlackMessage) -> float:
    try:
        seconds = float(message.get("ts") or 0)
    except (ValueError, TypeError):
        return 0.0
    return seconds if 0 <= seconds < _MAX_SECONDS else 0.0


def _person(person: SlackMessage) -> str:
    profile = dictionary(person.get("profile"))
    names = (profile.get("real_name"), person.get("real_name"), profile.get("display_name"), person.get("name"))
    return next((str(name) for name in names if name), str(person.get("id", "")))


def _channel(
    name: str, lists: Mapping[str, Sequence[SlackMessage]], people: Mapping[str, str]
) -> tuple[str, list[str]]:
    """Return a channel's title, and its topic and purpose."""
    entries = [entry for entries in lists.values() for entry in entries]
    entry = next(
        (entry for entry in entries if name in (entry.get("name"), entry.get("id")) and "members" in entry), {}
    )
    if entry and not entry.get("name"):  # direct messages have the names of their members
        return ", ".join(people.get(member, member) for member in entry["members"]), []
    texts = [str(dictionary(entry.get(field)).get("value") or "") for field in ("topic", "purpose")]
    return f"#{name}", [text for text in dict.fromkeys(texts) if text]


def _slack_messages(
    messages: Sequence[SlackMessage], people: Mapping[str, str], texts: SlackTexts
) -> Iterator[ChatMessage]:
    for message in messages:
        moment = datetime.fromtimestamp(_seconds(message), timezone.utc)
        user = str(message.get("user") or message.get("bot_id") or "")
        profile = dictionary(message.get("user_profile") or message.get("bot_profile"))
        speaker = people.get(user) or profile.get("real_name") or message.get("username") or profile.get("name") or user
        is_reply = message.get("thread_ts") not in (None, message.get("ts"))
        if text := texts.message_text(message):
            facts = {"reply": is_reply, "edited": message.get("edited"), "deleted": message.get("deleted")}
            marks = "".join(f" ({name})" for name, holds in facts.items() if holds)
            yield ChatMessage(f"{moment:%Y-%m-%d}", f"{moment:%H:%M}{marks}", str(speaker), text)


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

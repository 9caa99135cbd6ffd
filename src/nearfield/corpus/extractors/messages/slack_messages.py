"""What a message of a Slack export shows: its text, blocks, attachments and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

_MENTION = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")
_NO_WORD = re.compile(r"[\W_]+")
#: Blocks and their elements whose texts a reader sees; others are counted.
_TEXT_BLOCKS = (
    "section", "header", "context", "image", "actions", "input", "video", "markdown", "divider", "file", "call",
    "rich_text", "mrkdwn", "plain_text", "button", "checkboxes", "radio_buttons", "static_select", "overflow", "option",
    "table", "raw_text", "card", "alert", "context_actions",
)  # fmt: skip
#: Fields of blocks, with texts or with more blocks, in the order in which they are shown.
_BLOCK_FIELDS = (
    "title",
    "text",
    "label",
    "alt_text",
    "description",
    "hint",
    "fields",
    "elements",
    "accessory",
    "options",
    "rows",
)
_ATTACHED_FIELDS = ("pretext", "author_name", "title", "text")
#: Messages that say nothing themselves.
_SILENT = ("message_replied", "message_deleted", "reply_broadcast")

SlackMessage = Mapping[str, Any]


class SlackTexts:
    """Returns the texts of messages, and counts what they contain that is not read."""

    def __init__(self, people: Mapping[str, str]) -> None:
        self._people = people
        self.unread: Counter[str] = Counter()

    def message_text(self, message: SlackMessage) -> str:
        """Return all that a message shows."""
        text = str(message.get("text") or "")
        parts = [text, *self._new_texts(message.get("blocks"), text)]
        for attached in dictionaries(message.get("attachments")):
            parts += self._attachment(attached, "\n".join(parts))
        parts += [_file_text(file) for file in dictionaries(message.get("files"))]
        shown = "\n".join(part for part in dict.fromkeys(parts) if part.strip())
        if not shown and message.get("subtype") not in _SILENT:
            self.unread[f"message of the type {message.get('subtype') or 'message'}"] += 1
        return self.plain(shown)

    def plain(self, text: str) -> str:
        """Return a text with names for mentions, and labels for links."""
        return unescape(_MENTION.sub(self._mention, text))

    def _mention(self, match: re.Match[str]) -> str:
        sign, target, label = match.groups()
        label = (label or "").removeprefix(sign) if sign in ("@", "#", "!") else label
        if sign == "@":
            return f"@{label or self._people.get(target, target)}"
        if sign == "#":
            return f"#{label or target}"
        if sign == "!":
            shown = (label or target.partition("^")[0]).removeprefix("@")
            return shown if target.startswith("date^") else f"@{shown}"
        is_link = label and label != target and not target.startswith("mailto:")
        return f"{label} ({target})" if is_link else label or target

    def _attachment(self, attached: SlackMessage, before: str) -> list[str]:
        shown = [str(attached[field]) for field in _ATTACHED_FIELDS if attached.get(field)]
        for item in dictionaries(attached.get("fields")):
            shown.append(": ".join(str(item[name]) for name in ("title", "value") if item.get(name)))
        blocks = attached.get("blocks") or [
            block
            for unfurled in dictionaries(attached.get("message_blocks"))
            for block in dictionaries(dictionary(unfurled.get("message")).get("blocks"))
        ]
        shown += self._new_texts(blocks, "\n".join([before, *shown]))
        return shown or [str(attached.get("fallback") or "")]

    def _new_texts(self, blocks: object, before: str) -> list[str]:
        """Return the texts of blocks that the text of the message, which repeats most blocks, does not have."""
        known = _letters(before)
        texts = [text for block in dictionaries(blocks) for text in self._block_texts(block)]
        return [text for text in texts if _letters(self.plain(text)) not in known and _letters(text) not in known]

    def _block_texts(self, block: SlackMessage) -> Iterator[str]:
        kind = str(block.get("type") or "")
        if kind == "rich_text":
            yield from filter(None, map(self._rich_text, dictionaries(block.get("elements"))))
            return
        if kind not in _TEXT_BLOCKS:
            self.unread[f"block of the type {kind or 'unknown'}"] += 1
        for field in _BLOCK_FIELDS:
            value = block.get(field)
            if isinstance(value, str):
                yield value
            for inner in [value] if isinstance(value, dict) else _flat(value):
                yield from self._block_texts(inner)

    def _rich_text(self, element: SlackMessage) -> str:
        """Return the text of a part of a rich text, as the message's own text would have it."""
        inner = dictionaries(element.get("elements"))
        kind = str(element.get("type") or "")
        if inner:
            separator = "\n" if kind == "rich_text_list" else ""
            return separator.join(map(self._rich_text, inner))
        if kind == "link":
            label = element.get("text")
            return f"<{element.get('url', '')}{f'|{label}' if label else ''}>"
        if kind == "emoji":
            return f":{element.get('name', '')}:"
        sign, field = {"user": ("@", "user_id"), "channel": ("#", "channel_id"), "usergroup": ("!", "usergroup_id"),
                       "broadcast": ("!", "range")}.get(kind, ("", "text"))  # fmt: skip
        value = element.get(field) or element.get("fallback") or ""
        return f"<{sign}{value}>" if sign else str(value)


def dictionary(value: object) -> SlackMessage:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def dictionaries(values: object) -> list[SlackMessage]:
    """Return the objects of a list; those that are damaged are left out."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _flat(values: object) -> list[SlackMessage]:
    """Return the objects of a list, and of the lists in it, as in the rows of a table."""
    if not isinstance(values, list):
        return []
    return [item for value in values for item in ([value] if isinstance(value, dict) else _flat(value))]


def _letters(text: str) -> str:
    return _NO_WORD.sub("", unescape(text)).lower()


def _file_text(file: SlackMessage) -> str:
    """Return the name of a file, and what the export has of its content."""
    spoken = dictionary(dictionary(file.get("transcription")).get("preview"))
    texts = [
        f"[file: {file.get('title') or file.get('name') or 'without a name'}]",
        file.get("plain_text") or file.get("preview_plain_text") or file.get("preview"),
        spoken.get("content"),
        dictionary(file.get("initial_comment")).get("comment"),
    ]
    return "\n".join(text for text in texts if isinstance(text, str) and text.strip())

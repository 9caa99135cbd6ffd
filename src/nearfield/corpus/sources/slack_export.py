"""Slack exports: each channel of an exported folder or archive as one conversation."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from nearfield.corpus.document import NamedBytes, SourceItem
from nearfield.errors import InputError

#: The suffix of a channel's messages for the extractor ``slack``.
SUFFIX = ".slack-channel"
_USERS = "users.json"
#: Files that list channels, groups and direct messages.
_CHANNEL_LISTS = ("channels.json", "groups.json", "mpims.json", "dms.json")
#: Files about integrations and the like, which are no conversations.
_OTHER_LISTS = ("integration_logs.json", "canvases.json", "org_users.json", "file_conversations.json")
_DAY = re.compile(r"([^/]+)/(\d{4}-\d{2}-\d{2})\.json")

#: Returns the content of a file of the export, by its path in it.
FileReader = Callable[[str], bytes]


def is_export(names: Collection[str]) -> bool:
    """Return whether the names of the files in a folder are those of an export."""
    return _USERS in names and any(name in names for name in _CHANNEL_LISTS)


def export_root(names: Collection[str]) -> str | None:
    """Return the folder of an export among files with these paths, with a slash at its end; None if there is none."""
    for name in names:
        root = name.removesuffix(_USERS)
        if name == f"{root}{_USERS}" and (not root or root.endswith("/")):
            inner = [other.removeprefix(root) for other in names if other.startswith(root)]
            if is_export(inner) and any(is_part(other) and "/" in other for other in inner):
                return root
    return None


def is_part(name: str) -> bool:
    """Return whether a file of an export, by its path in it, is one of its lists or the messages of a day."""
    return name in (_USERS, *_CHANNEL_LISTS, *_OTHER_LISTS) or _DAY.fullmatch(name) is not None


def channel_items(prefix: str, stamps: Mapping[str, str], read: FileReader, max_bytes: int) -> Iterator[SourceItem]:
    """Yield an item for each channel; ``stamps`` has the files of the export, with what changes when they change."""
    channels: dict[str, list[str]] = {}
    for name in sorted(stamps):
        match = _DAY.fullmatch(name)
        if match:
            channels.setdefault(match[1], []).append(name)
    lists = [name for name in (_USERS, *_CHANNEL_LISTS) if name in stamps]
    for channel, days in channels.items():
        state = json.dumps([[name, stamps[name]] for name in (*lists, *days)])
        stamp = hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:32]
        key = f"{prefix}{channel}"
        yield SourceItem(key, key, partial(_read_channel, key, channel, lists, days, read, max_bytes), stamp)


def _read_channel(
    key: str, channel: str, lists: list[str], days: list[str], read: FileReader, max_bytes: int
) -> NamedBytes:
    """Return a channel's messages with the names of its people, for the extractor ``slack``.

    Raises:
        InputError: all days of the channel are damaged, or all files are too large.
    """
    parts, size = {}, 0
    damaged: list[str] = []
    for name in (*lists, *days):
        data = read(name)
        size += len(data)
        if size > max_bytes:
            raise InputError(f"{key}: larger than {max_bytes:,} bytes. Increase 'largest'.")
        try:
            parts[name] = json.loads(data)
        except (ValueError, RecursionError):
            damaged.append(name)
    if all(name in damaged for name in days):
        raise InputError(f"{key}: {damaged[-1]} of the export is damaged (not JSON).")
    bundle = {
        "channel": channel,
        "lists": {name: parts[name] for name in lists if name in parts},
        "days": [parts[name] for name in days if name in parts],
        "damaged": damaged,
    }
    return NamedBytes(json.dumps(bundle).encode(), f"{key}{SUFFIX}")

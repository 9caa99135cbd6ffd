"""`DuplicateReport`: groups of copies among files, the one of each that is best, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from nearfield.bulk.media_files.duplicates.folder_listing import ListedFile
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS
from nearfield.message_text import count_of, escape_controls, quote_name
from nearfield.units import format_bytes

#: Relations of a copy to the best file of its group.
EXACT, NEAR, VECTORS = "exact", "near", "vectors"
_BITS = 256
_SIGNS = {EXACT: "=", NEAR: "~", VECTORS: "~"}
_NANOSECONDS = 10**9


@dataclass(frozen=True)
class DuplicateFile:
    """A file of a group.

    Attributes:
        file: the file.
        width: pixels; 0 for sounds and files that cannot be decoded.
        height: the same.
        relation: ``exact`` (the same bytes), ``near`` (it looks the same) or ``vectors`` (its vector is near); empty
            for the best file of a group.
        value: how near it is: of 256 bits, those that differ; or the cosine of the vectors.
        original: the file with the same bytes that is listed before it, or None.
        is_linked: whether it is one file with ``original`` already, by a hard link.
    """

    file: ListedFile
    width: int = 0
    height: int = 0
    relation: str = ""
    value: float | None = None
    original: ListedFile | None = None
    is_linked: bool = False

    @property
    def path(self) -> str:
        """The path, with escapes for bytes that are not UTF-8."""
        return self.file.name

    @property
    def rank(self) -> tuple[int, int, int, str]:
        """What is compared for the best of a group; the smallest is."""
        return -self.width * self.height, -self.file.size, self.file.modified, self.path

    def to_dict(self) -> dict[str, Any]:
        """Return the file as a JSON object; what does not apply is left out."""
        facts: dict[str, Any] = {"path": self.path, "bytes": self.file.size}
        with suppress(ValueError, OverflowError):  # a date after the year 9999
            moment = datetime.fromtimestamp(self.file.modified / _NANOSECONDS, timezone.utc)
            facts["modified"] = moment.isoformat()
        if self.width:
            facts |= {"width": self.width, "height": self.height}
        if self.relation:
            facts["relation"] = self.relation
        if self.value is not None:
            facts["distance" if self.relation == NEAR else "similarity"] = self.value
        if self.original is not None:
            facts |= {"same_bytes_as": self.original.name, "is_linked": self.is_linked}
        return facts

    def to_text(self) -> str:
        """Return the file in a line for a terminal."""
        facts = [f"{self.width} x {self.height}"] if self.width else []
        facts.append(format_bytes(self.file.size))
        if self.is_linked:
            facts.append("linked already")
        elif self.relation == EXACT:
            facts.append("the same bytes")
        elif self.value is not None:
            near = f"{self.value:.0f} of {_BITS} bits differ" if self.relation == NEAR else f"cosine {self.value:.3f}"
            facts.append(near)
        return f"{quote_name(self.path)}  {', '.join(facts)}"


@dataclass(frozen=True)
class DuplicateGroup:
    """Files that are copies of one: of those, ``best`` is the one to keep, and ``reason`` says why."""

    best: DuplicateFile
    copies: tuple[DuplicateFile, ...]

    @property
    def reason(self) -> str:
        """Why it is the best: the first of resolution, size, age and name in which it differs from all others."""
        pixels, size, modified, _ = min(copy.rank for copy in self.copies)
        best = self.best.rank
        if best[0] < pixels:
            return "largest resolution"
        if best[1] < size:
            return "largest file"
        return "oldest" if best[2] < modified else "first by name"

    def to_dict(self) -> dict[str, Any]:
        """Return the group as a JSON object."""
        return {
            "kind": self.best.file.kind,
            "keep": self.best.to_dict(),
            "reason": self.reason,
            "copies": [copy.to_dict() for copy in self.copies],
        }

    def to_text(self) -> str:
        """Return the group in lines for a terminal."""
        lines = [f"{self.best.to_text()}  (keep: {self.reason})"]
        return "\n".join([*lines, *(f"  {_SIGNS[copy.relation]} {copy.to_text()}" for copy in self.copies)])


@dataclass(frozen=True)
class DuplicateReport:
    """What was searched, and the copies.

    Attributes:
        folders: the folders.
        counts: the number of files by kind: ``image``, ``video`` and ``audio``.
        groups: the groups, by the path of the best file.
        unreadable: files and folders that cannot be read, and why.
        links: symbolic links that were not followed.
        model: the model whose vectors were compared, or an empty text.
    """

    folders: tuple[str, ...]
    counts: Mapping[str, int]
    groups: tuple[DuplicateGroup, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    links: int = 0
    model: str = ""

    def linkable(self) -> Iterator[DuplicateFile]:
        """Yield the files that could be hard links: those with the bytes of another one that are not linked to it."""
        for group in self.groups:
            yield from (copy for copy in group.copies if copy.original is not None and not copy.is_linked)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "folders": list(self.folders),
            "files": dict(self.counts),
            "model": self.model or None,
            "groups": [group.to_dict() for group in self.groups],
            "unreadable": [{"path": path, "problem": problem} for path, problem in self.unreadable.items()],
            "links_not_followed": self.links,
            "linkable_bytes": sum(copy.file.size for copy in self.linkable()),
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict())

    def to_text(self) -> str:
        """Return the report as text for a terminal."""
        parts = [group.to_text() for group in self.groups]
        if self.unreadable:
            names = (f"  {quote_name(path)}: {escape_controls(text)}" for path, text in self.unreadable.items())
            parts.append("\n".join(["Cannot be read:", *names]))
        return "\n\n".join([*parts, self._summary()])

    def _summary(self) -> str:
        counts = [count_of(number, MEDIA_NOUNS[kind]) for kind, number in self.counts.items() if number]
        copies = [copy for group in self.groups for copy in group.copies]
        exact = sum(copy.relation == EXACT for copy in copies)
        groups, copied = count_of(len(self.groups), "group"), count_of(len(copies), "copy", "copies")
        files = ", ".join(counts) or "No files"
        lines = [f"{files}: {groups} with {copied}, {exact:,} of them with the same bytes as the one to keep."]
        if linkable := list(self.linkable()):
            size = format_bytes(sum(copy.file.size for copy in linkable))
            lines.append(
                f"{count_of(len(linkable), 'file')} ({size}) could be hard links to files with the same bytes."
            )
        if self.unreadable:
            lines.append(f"{count_of(len(self.unreadable), 'file or folder', 'files or folders')} could not be read.")
        if self.links:
            lines.append(f"{count_of(self.links, 'symbolic link')} not followed.")
        return "\n".join(lines)

"""``IndexReport``: the counts of an index run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: Maximum number of failures and skipped files that a report names; all are counted.
_MAX_NAMED = 20
#: The same for the text form.
_MAX_PRINTED, _MAX_PRINTED_LINES = 10, 5


@dataclass
class IndexReport:
    """Counts of one run. ``reused`` chunks have vectors from an earlier run; ``truncated`` should always be 0."""

    collection: str
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    completed: int = 0
    failed: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    truncated: int = 0
    duplicates: int = 0
    tiny: int = 0
    boilerplate: int = 0
    skipped: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)
    dropped_lines: list[tuple[str, float]] = field(default_factory=list)
    skipped_files: list[tuple[str, str]] = field(default_factory=list)
    #: Sources that could not be listed completely. Their documents were not removed.
    unlisted: list[str] = field(default_factory=list)
    #: Why searches still use the old chunks after a rebuild; empty if they use the new ones.
    held_back: str = ""

    def fail(self, document: str, reason: str) -> None:
        """Count a document that failed."""
        self.failed += 1
        if len(self.failures) < _MAX_NAMED:
            self.failures.append((document, reason))

    def skip(self, name: str, reason: str) -> None:
        """Count a file that was skipped."""
        self.skipped += 1
        if len(self.skipped_files) < _MAX_NAMED:
            self.skipped_files.append((name, reason))

    @property
    def documents(self) -> int:
        """The number of processed documents."""
        return self.new + self.changed + self.completed

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.collection}: {self.new:,} documents {would}new, {self.changed:,} changed, "
            f"{self.removed:,} removed, {self.unchanged:,} unchanged"
            + (f", {self.completed:,} completed" if self.completed else "")
        ]
        if not self.dry_run:
            speed = self.tokens / self.seconds if self.seconds else 0.0
            lines.append(
                f"  {self.chunks:,} chunks: {self.embedded:,} embedded, {self.reused:,} with unchanged vectors; "
                f"{self.tokens:,} tokens in {self.seconds:,.1f} s ({speed:,.0f} tokens/s)"
            )
            lines.append(
                f"  truncated {self.truncated:,}; left out: {self.duplicates:,} near-duplicates, {self.tiny:,} tiny "
                f"chunks, {self.boilerplate:,} boilerplate lines"
            )
        lines += [
            f"    repeated in {share:.0%}: {line[:90]}" for line, share in self.dropped_lines[:_MAX_PRINTED_LINES]
        ]
        lines += _list_files("skipped (unknown type)", self.skipped, self.skipped_files)
        lines += _list_files("failed", self.failed, self.failures)
        lines += [f"  {self.held_back}"] if self.held_back else []
        return "\n".join(lines)


def _list_files(label: str, count: int, files: Sequence[tuple[str, str]]) -> list[str]:
    if not count:
        return []
    printed = [f"    {name}: {reason}" for name, reason in files[:_MAX_PRINTED]]
    return [f"  {count:,} {label}", *printed, *(["    ..."] if count > len(printed) else [])]

"""Report: what an index run did, counted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

#: Failures, dropped lines and skipped files that a report names; all are counted.
_NAMED = 20


@dataclass
class IndexReport:
    """Counts of one run. ``reused`` chunks kept the vectors they had; ``truncated`` should always be 0."""

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
    #: Sources that could not be listed to their end: what is there of them stays.
    unlisted: list[str] = field(default_factory=list)
    #: Why what was made has not taken the place of what there was; empty where it has.
    held_back: str = ""

    def fail(self, document: str, reason: str) -> None:
        """Count a document that could not be taken in."""
        self.failed += 1
        if len(self.failures) < _NAMED:
            self.failures.append((document, reason))

    def skip(self, name: str, reason: str) -> None:
        """Count a file that is of no known type."""
        self.skipped += 1
        if len(self.skipped_files) < _NAMED:
            self.skipped_files.append((name, reason))

    @property
    def documents(self) -> int:
        """Documents that were read anew."""
        return self.new + self.changed + self.completed

    def told(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return asdict(self)

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.told(), ensure_ascii=False)

    def text(self) -> str:
        """Return it for people."""
        would = "would be " if self.dry_run else ""
        lines = [
            f"{self.collection}: {self.new:,} documents {would}new, {self.changed:,} changed, "
            f"{self.removed:,} removed, {self.unchanged:,} unchanged"
            + (f", {self.completed:,} completed" if self.completed else "")
        ]
        if not self.dry_run:
            speed = self.tokens / self.seconds if self.seconds else 0.0
            lines.append(
                f"  {self.chunks:,} chunks: {self.embedded:,} embedded, {self.reused:,} kept their vectors; "
                f"{self.tokens:,} tokens in {self.seconds:,.1f} s ({speed:,.0f} tokens/s)"
            )
            lines.append(
                f"  truncated {self.truncated:,}; left out: {self.duplicates:,} near-duplicates, {self.tiny:,} tiny "
                f"chunks, {self.boilerplate:,} repeated lines"
            )
        lines += [f"    repeated in {share:.0%}: {line[:90]}" for line, share in self.dropped_lines[:5]]
        lines += _named("not read (unknown type)", self.skipped, self.skipped_files)
        lines += _named("failed", self.failed, self.failures)
        lines += [f"  {self.held_back}"] if self.held_back else []
        return "\n".join(lines)


def _named(what: str, count: int, named: list[tuple[str, str]]) -> list[str]:
    if not count:
        return []
    shown = [f"    {name}: {reason}" for name, reason in named[:10]]
    return [f"  {count:,} {what}", *shown, *(["    ..."] if count > len(shown) else [])]

"""The report of ``nearfield embed``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class EmbedReport:
    """What a run did. ``seconds`` and the speeds are of this run alone, the counts of the whole output."""

    output: str
    model: str
    fingerprint: str
    texts: int
    tokens: int
    truncated_texts: int
    truncated_tokens: int
    resumed_at: int
    seconds: float
    texts_per_second: float
    tokens_per_second: float

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{self.texts:,} texts ({self.tokens:,} tokens) to {self.output}",
            f"  model        {self.model}",
            f"  fingerprint  {self.fingerprint}",
            f"  truncated    {self.truncated_texts:,} texts, {self.truncated_tokens:,} tokens cut off",
            f"  speed        {self.texts_per_second:,.0f} texts/s, {self.tokens_per_second:,.0f} tokens/s",
        ]
        return "\n".join([*lines, f"  resumed at   {self.resumed_at:,}"] if self.resumed_at else lines)


@dataclass(frozen=True)
class FolderReport(EmbedReport):
    """What a run on a folder of shards did: the counts are of all shards that are whole, by whomever they were made.

    ``skipped`` shards were there as they should be, ``damaged`` ones were not what their records said and were done
    again, ``removed`` ones had no rows any more, and ``elsewhere`` counts those left to other runs.
    """

    state: str
    shards: int
    written: int
    skipped: int
    damaged: int
    removed: int
    elsewhere: int

    def text(self) -> str:
        """Return it for people."""
        done = {"written": self.written, "there already": self.skipped, "removed": self.removed}
        rest = {"of them damaged before": self.damaged, "left to other runs": self.elsewhere}
        parts = [f"{count:,} {what}" for what, count in done.items()]
        parts += [f"{count:,} {what}" for what, count in rest.items() if count]
        return f"{super().text()}\n  shards       {self.shards:,} ({self.state}): {', '.join(parts)}"


@dataclass(frozen=True)
class Forecast:
    """What a run would do, estimated from a sample of the texts that was encoded; ``seconds`` is of this run alone."""

    output: str
    model: str
    texts: int
    texts_to_do: int
    shards: int
    shards_to_do: int
    removed: int
    damaged: int
    tokens_to_do: int
    bytes_to_do: int
    tokens_per_second: float
    seconds: float

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{self.texts:,} texts in {self.shards:,} shards; nothing was written to {self.output}",
            f"  model        {self.model}",
            f"  to do        {self.texts_to_do:,} texts in {self.shards_to_do:,} shards; {self.removed:,} to remove",
            f"  about        {self.tokens_to_do:,} tokens, {self.bytes_to_do / 1e6:,.0f} MB",
            f"  time         {duration(self.seconds)} at {self.tokens_per_second:,.0f} tokens/s",
        ]
        return "\n".join([*lines, f"  damaged      {self.damaged:,} shards"] if self.damaged else lines)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}"

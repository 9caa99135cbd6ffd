"""Reports of ``nearfield embed``, as JSON and as text for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from nearfield.message_text import count_of, escape_controls, quote_name
from nearfield.units import format_bytes

#: Counts of a report that say what the model did not read.
TOKEN_COUNTS = ("truncated_texts", "truncated_tokens", "unknown_tokens", "unread_texts")


@dataclass(frozen=True)
class EmbedReport:
    """What a run did. ``seconds`` and the speeds are of this run only, the counts of the whole output.

    ``unknown_tokens`` are tokens that the model does not know. ``unread_texts`` are texts with more unknown tokens than
    known ones, or with unknown tokens for most characters, or with characters and no token.

    ``texts`` are the rows, whose ``unit`` is text, picture, video, sound or segment, and ``tokens`` of pictures and
    frames are patches. ``megapixels`` is the millions of pixels of all pictures, ``video_seconds`` and
    ``audio_seconds`` are the seconds of all videos and sounds, and ``skipped_files`` is the number of files that cannot
    be read. ``vectors`` is the number of all vectors if these are multi-vectors, several of each input.
    """

    output: str
    model: str
    fingerprint: str
    texts: int
    tokens: int
    truncated_texts: int
    truncated_tokens: int
    unknown_tokens: int
    unread_texts: int
    resumed_at: int
    seconds: float
    texts_per_second: float
    tokens_per_second: float
    unit: str = field(default="text", kw_only=True)
    megapixels: float = field(default=0.0, kw_only=True)
    video_seconds: float = field(default=0.0, kw_only=True)
    audio_seconds: float = field(default=0.0, kw_only=True)
    skipped_files: int = field(default=0, kw_only=True)
    vectors: int = field(default=0, kw_only=True)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self))

    def to_text(self) -> str:
        """Return the report as text for a terminal."""
        lines = [
            f"{self._action()}: {', '.join(filter(None, (count_of(self.texts, self.unit), self._amount())))}",
            f"  Model:        {escape_controls(self.model)}",
            f"  Fingerprint:  {self.fingerprint}",
        ]
        if self.vectors:
            lines.append(
                f"  Vectors:      {self.vectors:,}, {self.vectors / max(self.texts, 1):,.1f} of each {self.unit}"
            )
        if self.unit == "text":
            lines.append(f"  Truncated:    {self._truncated()}")
        if self.skipped_files:
            lines.append(f"  Left out:     {count_of(self.skipped_files, 'file')} that cannot be read")
        if self.unknown_tokens or self.unread_texts:
            lines.append(f"  Unknown:      {self._unknown()}")
        if self.texts_per_second:
            lines.append(f"  Speed:        {self.texts_per_second:,.0f} {self.unit}s/s{self._second_speed()}")
        if self.resumed_at:
            lines.append(f"  Resumed:      after {count_of(self.resumed_at, self.unit)} that an earlier run encoded")
        return "\n".join(lines)

    def _amount(self) -> str:
        if self.unit == "text":
            return count_of(self.tokens, "token")
        if self.unit == "picture":
            return f"{self.megapixels:,.1f} megapixels"
        return f"{self.video_seconds + self.audio_seconds:,.1f} seconds"

    def _second_speed(self) -> str:
        return f", {self.tokens_per_second:,.0f} tokens/s" if self.unit == "text" else ""

    def _action(self) -> str:
        """Return what this run did with the output."""
        verb = "Completed" if self.resumed_at else "Wrote"
        return f"{verb} {quote_name(self.output)}"

    def _truncated(self) -> str:
        if not self.truncated_texts:
            return "none"
        cut = count_of(self.truncated_tokens, "token")
        return f"{count_of(self.truncated_texts, 'text')} too long; {cut} cut off"

    def _unknown(self) -> str:
        tokens = count_of(self.unknown_tokens, "token")
        if not self.unread_texts:
            return tokens
        return f"{tokens}; the model cannot read {count_of(self.unread_texts, 'text')}, whose vectors say little"


@dataclass(frozen=True)
class NodeReport:
    """What the workers of one machine wrote. ``seconds`` is the time of its workers together."""

    node: str
    cpu: str
    workers: int = 0
    shards: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second while all workers of the machine are busy."""
        return self.tokens * self.workers / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class ClusterReport:
    """What a run on several machines adds to a report.

    Attributes:
        nodes: the machines.
        retries: shards that were encoded again because a worker failed or stopped.
        copies: shards that were given to a second worker because the first one was slow.
        set_aside: a message for each shard that could not be encoded.
        warnings: workers that could not be used, with the reason.
    """

    nodes: tuple[NodeReport, ...] = ()
    retries: int = 0
    copies: int = 0
    set_aside: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_lines(self, unit: str) -> list[str]:
        """Return lines for a terminal; ``unit`` is what a row is called."""
        lines = [
            f"  Node:         {escape_controls(node.node)}: {count_of(node.workers, 'worker')}, "
            f"{count_of(node.shards, 'shard')}, {count_of(node.rows, unit)}, {node.tokens_per_second:,.0f} tokens/s"
            for node in self.nodes
        ]
        if self.retries or self.copies:
            lines.append(f"  Again:        {self.retries:,} after failures, {self.copies:,} beside slow workers")
        lines += [f"  Warning:      {escape_controls(warning)}" for warning in self.warnings]
        return lines + [f"  Set aside:    {escape_controls(message)}" for message in self.set_aside]


@dataclass(frozen=True)
class FolderReport(EmbedReport):
    """What a run on a folder of shards did; the counts are of all complete shards, also those of other runs.

    Attributes:
        skipped: shards that existed as planned.
        damaged: shards whose files differed from their records; they were written again.
        removed: shards that have no rows any more.
        elsewhere: shards that were left to other runs.
        cpus: the kinds of CPU that computed the shards, as far as their records say.
        cluster: of a run on several machines, what it adds.
        set_aside: rows without a vector, because their picture, sound or video cannot be read; ``_set_aside.jsonl`` in
            the folder has them with their reasons.
    """

    state: str
    shards: int
    written: int
    skipped: int
    damaged: int
    removed: int
    elsewhere: int
    cpus: tuple[str, ...] = ()
    cluster: ClusterReport | None = None
    set_aside: int = field(default=0, kw_only=True)

    @property
    def failed(self) -> bool:
        """Whether shards could not be encoded."""
        return self.cluster is not None and bool(self.cluster.set_aside)

    def to_json(self) -> str:
        """Return the report as JSON; ``cluster`` is there only of a run on several machines."""
        values = asdict(self)
        if self.cluster is None:
            del values["cluster"]
        return json.dumps(values)

    def to_text(self) -> str:
        """Return the report as text for a terminal."""
        always = {"written": self.written, "up to date": self.skipped, "removed": self.removed}
        optional = {"damaged and written again": self.damaged, "left to other runs": self.elsewhere}
        parts = [f"{count:,} {action}" for action, count in always.items()]
        parts += [f"{count:,} {action}" for action, count in optional.items() if count]
        lines = [super().to_text(), f"  Shards:       {self.shards:,} ({self.state}): {', '.join(parts)}"]
        if len(self.cpus) > 1:
            names = ", ".join(map(escape_controls, self.cpus))
            lines.append(f"  CPUs:         {names}: the last bits of equal texts may differ between them")
        if self.set_aside:
            place = quote_name(f"{self.output.rstrip('/')}/_set_aside.jsonl")
            lines.append(f"  Set aside:    {count_of(self.set_aside, self.unit)} that cannot be read: see {place}")
        return "\n".join(lines + (self.cluster.to_lines(self.unit) if self.cluster is not None else []))

    def _amount(self) -> str:
        """Return how much was read: tokens, or patches of pictures. Records do not count pixels and seconds."""
        amounts = {"text": super()._amount(), "picture": f"{self.tokens:,} patches"}
        return amounts.get(self.unit, "")

    def _action(self) -> str:
        output = quote_name(self.output)
        if not self.written:
            return f"Nothing new was written to {output}"
        if not self.skipped:
            return f"Wrote {output}"
        return f"Wrote {self.written:,} of {count_of(self.shards, 'shard')} of {output}, which holds"


@dataclass(frozen=True)
class Forecast:
    """What a run would do, estimated by encoding a sample of the texts; ``seconds`` is of this run only."""

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
    unit: str = "text"

    def to_json(self) -> str:
        """Return the forecast as JSON."""
        return json.dumps(asdict(self))

    def to_text(self) -> str:
        """Return the forecast as text for a terminal."""
        size = f"{count_of(self.tokens_to_do, 'token')}, {format_bytes(self.bytes_to_do)} of vectors"
        lines = [
            f"Dry run, nothing was written to {quote_name(self.output)}: {self._shards(self.texts, self.shards)}",
            f"  Model:        {escape_controls(self.model)}",
            f"  To encode:    {self._shards(self.texts_to_do, self.shards_to_do)}",
            f"  Estimate:     {size}",
            f"  Time:         {format_duration(self.seconds)} at {self.tokens_per_second:,.0f} tokens/s",
        ]
        lines += [f"  To remove:    {count_of(self.removed, 'shard')}"] if self.removed else []
        lines += [f"  Damaged:      {count_of(self.damaged, 'shard')}"] if self.damaged else []
        return "\n".join(lines)

    def _shards(self, texts: int, shards: int) -> str:
        return f"{count_of(texts, self.unit)} in {count_of(shards, 'shard')}"


def format_duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}"

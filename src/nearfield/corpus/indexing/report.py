"""``IndexReport``: the counts of an index run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfield.corpus.document import Loss
from nearfield.corpus.manifest.records import DocumentRecord, kept_share
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.unread_types import describe_skipped
from nearfield.message_text import count_of, escape_controls, quote_name, to_json

#: Maximum number of failures and skipped files that a report names; all are counted.
_MAX_NAMED = 20
#: The same for the text form.
_MAX_PRINTED, _MAX_PRINTED_LINES = 10, 5


@dataclass(frozen=True)
class PartialDocument:
    """A document that lacks a part of what a reader sees: the share of its words, what is missing, and what to do."""

    id: str
    share: float | None
    losses: tuple[Loss, ...]

    @property
    def missing(self) -> str:
        """What is missing, in one line."""
        return describe_losses(self.losses)

    @property
    def advice(self) -> tuple[str, ...]:
        """What the user can do: different sentences."""
        return tuple(dict.fromkeys(loss.advice for loss in self.losses if loss.advice))


@dataclass(frozen=True)
class NodeCounts:
    """What the workers of one machine did; ``seconds`` is the time since its first worker was ready."""

    node: str
    cpu: str
    workers: int = 0
    files: int = 0
    chunks: int = 0
    seconds: float = 0.0

    def to_text(self) -> str:
        """Return its name and speed."""
        seconds = max(self.seconds, 1e-9)
        return f"{self.node} {self.files / seconds:,.1f} files/s, {self.chunks / seconds:,.1f} chunks/s"


@dataclass(frozen=True)
class ClusterCounts:
    """What a run on several machines adds to a report.

    Attributes:
        nodes: the machines.
        retries: documents that were processed again because a worker failed or stopped.
        copies: tasks that were given to a second worker because the first one was slow.
        warnings: workers that could not be used, with the reason.
    """

    nodes: tuple[NodeCounts, ...] = ()
    retries: int = 0
    copies: int = 0
    warnings: tuple[str, ...] = ()

    def to_lines(self) -> list[str]:
        """Return lines for a terminal."""
        lines = [f"  {escape_controls(node.to_text())}, {count_of(node.workers, 'worker')}" for node in self.nodes]
        lines += [f"  {count_of(self.retries, 'document')} processed again by another worker"] if self.retries else []
        return lines + [f"  warning: {escape_controls(warning)}" for warning in self.warnings]


@dataclass
class IndexReport:
    """Counts of one run. ``reused`` chunks have vectors from an earlier run; ``truncated`` should always be 0.

    ``failed`` and ``partial`` also count documents that did not change since they failed or were indexed in part.
    ``seconds`` is the time of the whole command, ``run_seconds`` that without loading the models.
    """

    collection: str
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    completed: int = 0
    failed: int = 0
    partial: int = 0
    #: Documents of this run that the model cannot read, by their script, and the model.
    unread_scripts: dict[str, int] = field(default_factory=dict)
    unread_by: str = ""
    #: Complete documents with pictures that have no description.
    with_pictures: int = 0
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
    run_seconds: float = 0.0
    dry_run: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)
    dropped_lines: list[tuple[str, float]] = field(default_factory=list)
    skipped_files: list[tuple[str, str]] = field(default_factory=list)
    #: The number of skipped files by reason.
    skipped_reasons: dict[str, int] = field(default_factory=dict)
    partial_documents: list[PartialDocument] = field(default_factory=list)
    #: Sources most of whose documents are gone; they were not removed. Source, documents that are gone, all documents.
    held_removals: list[tuple[str, int, int]] = field(default_factory=list)
    #: Sources that list no documents.
    empty_sources: list[str] = field(default_factory=list)
    #: Sources that could not be listed completely. Their documents were not removed.
    unlisted: list[str] = field(default_factory=list)
    #: Why searches still use the old chunks after a rebuild; empty if they use the new ones.
    held_back: str = ""
    #: What each machine did, in a run on several.
    cluster: ClusterCounts | None = None

    def fail(self, document: str, reason: str) -> None:
        """Count a document that failed."""
        self.failed += 1
        if len(self.failures) < _MAX_NAMED:
            self.failures.append((document, reason))

    def add_unread(self, script: str, model: str) -> None:
        """Count a document in a script that the model cannot read."""
        self.unread_by = model
        self.unread_scripts[script] = self.unread_scripts.get(script, 0) + 1

    def skip(self, name: str, reason: str) -> None:
        """Count a file that was skipped."""
        self.skipped += 1
        self.skipped_reasons[reason] = self.skipped_reasons.get(reason, 0) + 1
        if len(self.skipped_files) < _MAX_NAMED:
            self.skipped_files.append((name, reason))

    def add_unchanged(self, record: DocumentRecord) -> None:
        """Count a document that did not change, with the error if it failed before."""
        if record.state == "failed":
            self.fail(record.id, record.error)
            return
        self.unchanged += 1
        self.add_account(record)

    def add_listing(self, source: Source, listed: int) -> None:
        """Record what a source skipped, and whether it listed any documents."""
        for name, reason in source.skipped:
            self.skip(name, reason)
        if not listed and source.whole and source.kind not in ("put", "stdin"):
            self.empty_sources.append(source.name)

    def add_account(self, record: DocumentRecord) -> None:
        """Count a document if it lacks a part of its text, or descriptions of its pictures."""
        if not record.partial:
            self.with_pictures += any(loss.may_be_decoration for loss in record.losses)
            return
        self.partial += 1
        if len(self.partial_documents) < _MAX_NAMED:
            share = kept_share(record.visible_words, record.kept_words)
            self.partial_documents.append(PartialDocument(record.id, share, record.losses))

    @property
    def documents(self) -> int:
        """The number of processed documents."""
        return self.new + self.changed + self.completed

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return to_json(self.to_dict())

    def to_text(self) -> str:
        """Return the report as lines for a terminal; counts of zero are left out."""
        lines = [f"{self.collection}: {self._documents()}"]
        if self.chunks and not self.dry_run:
            lines.append(f"  {self._chunks()}")
        lines += self.cluster.to_lines() if self.cluster is not None else []
        left_out = _join_counts(
            (self.duplicates, "near-duplicate"), (self.tiny, "tiny chunk"), (self.boilerplate, "boilerplate line")
        )
        lines += [f"  left out: {left_out}"] if left_out else []
        lines += [f"  {count_of(self.truncated, 'chunk')} truncated by the model"] if self.truncated else []
        if self.boilerplate or self.dry_run:
            shown = self.dropped_lines[:_MAX_PRINTED_LINES]
            lines += [f"    repeated in {share:.0%}: {escape_controls(line[:90])}" for line, share in shown]
        lines += [*self._problems(), *self._pictures()]
        if self.skipped:
            lines.append(f"  not read: {count_of(self.skipped, 'file')}")
            reasons = sorted(self.skipped_reasons.items(), key=lambda entry: (-entry[1], entry[0]))
            described = (describe_skipped(reason, count) for reason, count in reasons[:_MAX_PRINTED])
            lines += [f"    {escape_controls(line)}" for line in described]
            lines += ["    ..."] if len(reasons) > _MAX_PRINTED else []
        return "\n".join(lines)

    def _pictures(self) -> list[str]:
        if not self.with_pictures:
            return []
        verb = "has" if self.with_pictures == 1 else "have"
        command = f"nearfield collections documents {self.collection}"
        return [f"  {count_of(self.with_pictures, 'document')} {verb} pictures without a description: {command}"]

    def problems(self) -> str:
        """Return what the user should look at, as lines for a terminal; empty if there is nothing."""
        lines = self._problems()
        return "\n".join([f"{self.collection}:", *lines]) if lines else ""

    def _documents(self) -> str:
        counts = [
            f"{count:,} {label}"
            for count, label in (
                (self.new, "new"),
                (self.changed, "changed"),
                (self.completed, "completed"),
                (self.removed, "removed"),
                (self.unchanged, "unchanged"),
            )
            if count
        ]
        if not counts:
            return "no documents" if not self.failed else "nothing new"
        first, *others = counts
        number, label = first.split(" ", 1)
        unit = "document" if number == "1" else "documents"
        would = " would be" if self.dry_run else ""
        return ", ".join([f"{number} {unit}{would} {label}", *others])

    def _chunks(self) -> str:
        detail = _join_counts((self.embedded, "embedded"), (self.reused, "with unchanged vectors"), plural=False)
        speed = f" ({self.tokens / self.run_seconds:,.0f} tokens/s)" if self.run_seconds and self.tokens else ""
        tokens = f"; {count_of(self.tokens, 'token')}" if self.tokens else ""
        return f"{count_of(self.chunks, 'chunk')}: {detail}{tokens} in {self.seconds:,.1f} s{speed}"

    def _problems(self) -> list[str]:
        lines = [self._removal_line(*removal) for removal in self.held_removals]
        lines += [f"  {quote_name(source)} has no documents" for source in self.empty_sources]
        lines += self._unread_lines()
        lines += self._partial_lines()
        lines += _list_files("failed", self.failed, self.failures)
        if self.failed > _MAX_PRINTED:
            lines.append(f"    All of them: nearfield collections documents {self.collection} --state failed")
        return lines + ([f"  {escape_controls(self.held_back)}"] if self.held_back else [])

    def _removal_line(self, source: str, gone: int, total: int) -> str:
        return (
            f"  not removed: {gone:,} of {count_of(total, 'document')} of {quote_name(source)}, which no longer lists "
            f"them. If they are deleted on purpose: nearfield index {self.collection} --allow-removal"
        )

    def _unread_lines(self) -> list[str]:
        model = quote_name(self.unread_by)
        return [
            f"  {count_of(count, 'document')} in a script that {model} cannot read ({script}): searches find "
            f"{'it' if count == 1 else 'them'} by shared words alone. Use a multilingual model."
            for script, count in self.unread_scripts.items()
        ]

    def _partial_lines(self) -> list[str]:
        if not self.partial:
            return []
        verb = "is" if self.partial == 1 else "are"
        lines = [f"  {count_of(self.partial, 'document')} {verb} partial:"]
        for document in self.partial_documents[:_MAX_PRINTED]:
            share = "" if document.share is None or document.share >= 1 else f" {document.share:.0%} of its words;"
            lines.append(f"    {quote_name(document.id)}:{share} not read: {escape_controls(document.missing)}")
        lines += ["    ..."] if self.partial > _MAX_PRINTED else []
        advice = Counter(line for document in self.partial_documents for line in document.advice)
        lines += [f"    {escape_controls(line)}" for line, _ in advice.most_common(_MAX_PRINTED_LINES)]
        return [*lines, f"    All of them: nearfield collections documents {self.collection} --state partial"]


def describe_losses(losses: Sequence[Loss]) -> str:
    """Return what is missing from a document, in one line."""
    return "; ".join(loss.reason for loss in losses)


def _join_counts(*counts: tuple[int, str], plural: bool = True) -> str:
    """Return counts that are not zero, joined by commas."""
    return ", ".join(count_of(count, name) if plural else f"{count:,} {name}" for count, name in counts if count)


def _list_files(label: str, count: int, files: Sequence[tuple[str, str]]) -> list[str]:
    if not count:
        return []
    printed = [f"    {quote_name(name)}: {escape_controls(reason)}" for name, reason in files[:_MAX_PRINTED]]
    return [f"  {count:,} {label}", *printed, *(["    ..."] if count > len(printed) else [])]

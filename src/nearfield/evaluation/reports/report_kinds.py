"""The kinds of reports: what each command writes, as far as it is shown, and how it becomes a ``ReportContent``.

Unknown fields are ignored; a known one of another type makes a report unreadable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import msgspec

from nearfield.evaluation.error_analysis import describe_row
from nearfield.evaluation.reports.report import FactTable, PairRow, ReportContent, ScoreRow, WorstCase
from nearfield.units import format_bytes

Interval: TypeAlias = tuple[float, float] | None


class ReportKind(Protocol):
    """A report of one kind, as it was read."""

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        ...


class NamedThing(msgspec.Struct):
    """A model, variant or data set."""

    name: str


class WorstItem(msgspec.Struct):
    """An item of ``error_analysis``."""

    text: str
    score: float
    expected: list[dict[str, Any]] = []
    returned: list[dict[str, Any]] = msgspec.field(name="found", default_factory=list)

    def to_case(self, subject: str, dataset: str) -> WorstCase:
        """Return the item of a model on a data set."""
        expected, returned = ([describe_row(row) for row in rows] for rows in (self.expected, self.returned))
        return WorstCase(subject, dataset, self.text, self.score, expected, returned)


class EvaluationResult(msgspec.Struct):
    """A result of ``nearfield.evaluate``."""

    subject: NamedThing
    dataset: NamedThing
    main: str
    score: float
    interval: Interval = None
    metrics: dict[str, float] = {}
    cautions: list[str] = []
    worst: list[WorstItem] = []

    def to_score(self, subject: str = "") -> ScoreRow:
        """Return its main score."""
        return ScoreRow(
            subject or self.subject.name, self.dataset.name, self.main, self.score, *(self.interval or (None, None))
        )

    def cases(self, subject: str = "") -> list[WorstCase]:
        """Return its worst items."""
        return [item.to_case(subject or self.subject.name, self.dataset.name) for item in self.worst]


class EvaluateReport(msgspec.Struct):
    """What ``nearfield evaluate`` prints as JSON."""

    results: list[EvaluationResult]

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        rows = [[one.dataset.name, name, f"{value:.2f}"] for one in self.results for name, value in one.metrics.items()]
        return ReportContent(
            _unique(one.subject.name for one in self.results),
            _unique(one.dataset.name for one in self.results),
            _unique(f"{one.dataset.name}: {caution}" for one in self.results for caution in one.cautions),
            [one.to_score() for one in self.results],
            tables=[FactTable("All metrics", ["Data set", "Metric", "Points"], rows)] if rows else [],
            worst=[case for one in self.results for case in one.cases()],
        )


class PairedTest(msgspec.Struct):
    """A paired test of two variants."""

    dataset: str | None
    a: str
    b: str
    difference: float
    p: float
    significant: bool
    interval: Interval = None
    adjusted: float | None = None


class VariantFailure(msgspec.Struct):
    """A step of a variant that failed."""

    step: str
    message: str


class ComparedVariant(msgspec.Struct):
    """A variant of a comparison."""

    name: str
    label: str = ""
    results: dict[str, EvaluationResult] = {}
    errors: list[VariantFailure] = []
    speed: dict[str, Any] | None = None
    storage: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """Its short name in this comparison."""
        return self.label or self.name

    def costs(self) -> list[str]:
        """Return documents per second, memory and bytes of a document, as texts."""
        speed, storage = self.speed or {}, self.storage or {}
        return [
            _number(_field(speed, "bulk", "texts_per_second"), "{:,.0f}/s"),
            _bytes(_field(speed, "memory", "peak")),
            _bytes(_field(storage, "bytes_per_document")),
        ]


class ComparisonVerdict(msgspec.Struct):
    """What a comparison concludes."""

    headline: str
    sentences: list[str] = []
    take: str | None = None


class CompareReport(msgspec.Struct):
    """What ``nearfield compare`` prints as JSON."""

    variants: list[ComparedVariant]
    verdict: ComparisonVerdict
    datasets: list[NamedThing] = []
    significance: list[PairedTest] = []
    cautions: list[str] = []

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        titles = {one.name: one.title for one in self.variants}
        failures = [f"{one.title}: {error.step}: {error.message}" for one in self.variants for error in one.errors]
        costs = [[one.title, *one.costs()] for one in self.variants if one.speed or one.storage]
        heads = ["Variant", "Documents", "Memory", "Bytes of a document"]
        chosen = next((one for one in self.variants if one.name == self.verdict.take), None)
        return ReportContent(
            [one.title for one in self.variants],
            [one.name for one in self.datasets],
            [self.verdict.headline, *self.verdict.sentences, *self.cautions, *failures],
            [result.to_score(one.title) for one in self.variants for result in one.results.values()],
            [_pair(test, titles) for test in self.significance],
            [FactTable("Speed and size", heads, costs)] if costs else [],
            [case for result in chosen.results.values() for case in result.cases(chosen.title)] if chosen else [],
        )


class BeforeAfter(msgspec.Struct):
    """The scores of a model before and after a change, with the paired test of their difference."""

    metric: str
    before: float
    after: float
    p: float
    significant: bool
    interval: Interval = None
    dataset: str = ""


class CosineItem(msgspec.Struct):
    """A text whose vector changed."""

    text: str
    cosine: float


class CosineFigures(msgspec.Struct):
    """Cosines of vectors before and after quantisation."""

    texts: int
    least: float
    mean: float
    worst: list[CosineItem] = []


class QuantizeReport(msgspec.Struct):
    """What ``nearfield quantize`` prints as JSON."""

    model: str
    precision: str
    sets: list[BeforeAfter]
    refusal: str | None = None
    folder: str | None = None
    cosines: CosineFigures | None = None

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        verdict = f"Nothing was written: {self.refusal}." if self.refusal else f"Written: {self.folder or 'a folder'}."
        names = ("float32", self.precision)
        return _before_after(
            [f"{self.model} in {self.precision}"],
            {one.dataset: one for one in self.sets},
            names,
            [verdict],
            self._cosines(),
        )

    def _cosines(self) -> list[FactTable]:
        if self.cosines is None:
            return []
        facts = self.cosines
        title = f"Cosine of {facts.texts:,} texts to float32: mean {facts.mean:.4f}, least {facts.least:.4f}"
        rows = [[f"{item.cosine:.4f}", item.text] for item in facts.worst]
        return [FactTable(title, ["Cosine", "Text"], rows)]


class TrainingVerdict(msgspec.Struct):
    """Whether a trained model is better, and why."""

    better: bool
    reasons: list[str] = []


class TrainReport(msgspec.Struct):
    """What ``nearfield train`` prints as JSON."""

    base: NamedThing
    verdict: TrainingVerdict
    comparisons: dict[str, BeforeAfter]
    written: str | None = None
    notes: list[str] = []
    leaked: bool | list[Any] | dict[str, Any] | None = None

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        outcome = "Better" if self.verdict.better else "Not proved to be better"
        headline = f"{outcome}: {self.written or 'nothing was written'}."
        leaks = ["Rows of the test sets were trained on."] if self.leaked else []
        sentences = [headline, *self.verdict.reasons, *leaks, *self.notes]
        return _before_after([self.base.name], self.comparisons, ("before", "after"), sentences, [])


class AdvisedModel(msgspec.Struct):
    """A model that is proposed."""

    id: str
    roles: list[str] = []
    reasons: list[str] = []
    against: list[str] = []


class AdvisedNeed(msgspec.Struct):
    """What models were proposed for."""

    purpose: str
    languages: list[str] = []


class AdviseReport(msgspec.Struct):
    """What ``nearfield advise`` prints as JSON."""

    need: AdvisedNeed
    summary: list[str]
    candidates: list[AdvisedModel]

    def to_content(self) -> ReportContent:
        """Return what is shown."""
        rows = [
            [one.id, ", ".join(one.roles), "; ".join(one.reasons), "; ".join(one.against)] for one in self.candidates
        ]
        return ReportContent(
            [one.id for one in self.candidates],
            [", ".join([self.need.purpose, *self.need.languages])],
            self.summary or ["No model fits."],
            tables=[FactTable("Models", ["Model", "Role", "For it", "Against it"], rows)],
        )


#: The kinds by the name of their command, and the fields by which a file of bare results is recognised.
KINDS: Mapping[str, type[ReportKind]] = MappingProxyType(
    {
        "evaluate": EvaluateReport,
        "compare": CompareReport,
        "quantize": QuantizeReport,
        "train": TrainReport,
        "advise": AdviseReport,
    }
)
_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "evaluate": frozenset({"results"}),
        "compare": frozenset({"variants", "verdict"}),
        "quantize": frozenset({"precision", "sets"}),
        "train": frozenset({"comparisons", "verdict"}),
        "advise": frozenset({"candidates", "summary"}),
    }
)


def recognise_kind(fields: Iterable[str]) -> str | None:
    """Return the kind of results with these fields; None if no command writes them."""
    names = set(fields)
    return next((kind for kind, required in _FIELDS.items() if required <= names), None)


def _before_after(
    models: list[str],
    sets: Mapping[str, BeforeAfter],
    names: tuple[str, str],
    sentences: list[str],
    tables: list[FactTable],
) -> ReportContent:
    scores = [
        ScoreRow(name, dataset, one.metric, value)
        for dataset, one in sets.items()
        for name, value in zip(names, (one.before, one.after), strict=True)
    ]
    pairs = [
        PairRow(dataset, names[1], names[0], one.after - one.before, *_ends(one.interval), one.p, one.significant)
        for dataset, one in sets.items()
    ]
    # The list shows the first score: that of the result.
    scores.sort(key=lambda row: row.subject != names[1])
    return ReportContent(models, list(sets), sentences, scores, pairs, tables)


def _pair(test: PairedTest, titles: Mapping[str, str]) -> PairRow:
    first, second = (titles.get(name, name) for name in (test.a, test.b))
    p = test.p if test.adjusted is None else test.adjusted
    return PairRow(test.dataset or "", first, second, test.difference, *_ends(test.interval), p, test.significant)


def _ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval or (None, None)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _field(values: Any, *names: str) -> float | None:
    """Return a number within mappings; None if it is not there, or is no number."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return float(values) if isinstance(values, (int, float)) else None


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _bytes(value: float | None) -> str:
    return "–" if value is None else format_bytes(value)

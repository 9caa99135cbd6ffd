"""A report as it is shown: the same form for each kind of report, with a bounded number of rows."""

from __future__ import annotations

from typing import Any

import msgspec

#: Rows of a list, and letters of a text, that are shown.
MAX_ROWS, MAX_LETTERS = 200, 2000


class ScoreRow(msgspec.Struct):
    """A score of a model or variant on a data set, in points, with its 95% interval if there is one."""

    subject: str
    dataset: str
    metric: str
    score: float
    low: float | None = None
    high: float | None = None


class PairRow(msgspec.Struct):
    """A paired test on a data set: ``first`` minus ``second`` in points, 95% interval, and p."""

    dataset: str
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float
    significant: bool


class WorstCase(msgspec.Struct):
    """An item that lost most: its text, its score in points, what was expected, and what was returned."""

    subject: str
    dataset: str
    text: str
    score: float
    expected: list[str]
    returned: list[str]


class FactTable(msgspec.Struct):
    """Other facts of a report, as texts."""

    title: str
    heads: list[str]
    rows: list[list[str]]


class ReportContent(msgspec.Struct):
    """What a report says: models and data sets by name, sentences, and rows of figures."""

    models: list[str]
    data: list[str]
    sentences: list[str] = []
    scores: list[ScoreRow] = []
    pairs: list[PairRow] = []
    tables: list[FactTable] = []
    worst: list[WorstCase] = []

    def bounded(self) -> ReportContent:
        """Return the content with at most ``MAX_ROWS`` rows in each list; a sentence says what is left out."""
        lengths = {name: len(getattr(self, name)) for name in self.__struct_fields__}
        cut = [f"Only {MAX_ROWS} of {count:,} {name} are shown." for name, count in lengths.items() if count > MAX_ROWS]
        content: ReportContent = _bounded(self)
        content.sentences += cut
        return content


class ReportSummary(msgspec.Struct):
    """A report in a list: its file, ``created`` in seconds since 1970, and its first score.

    ``problem`` says why a file cannot be read; it is empty for a report.
    """

    name: str
    created: float
    kind: str = ""
    models: list[str] = []
    data: list[str] = []
    score: ScoreRow | None = None
    problem: str = ""


class Report(ReportSummary):
    """A report: its summary, and its content."""

    sentences: list[str] = []
    scores: list[ScoreRow] = []
    pairs: list[PairRow] = []
    tables: list[FactTable] = []
    worst: list[WorstCase] = []


def _bounded(value: Any) -> Any:
    """Return a value whose lists and texts have their maximum length."""
    if isinstance(value, str):
        return value[:MAX_LETTERS]
    if isinstance(value, list):
        return [_bounded(item) for item in value[:MAX_ROWS]]
    if isinstance(value, msgspec.Struct):
        return type(value)(*(_bounded(getattr(value, name)) for name in value.__struct_fields__))
    return value

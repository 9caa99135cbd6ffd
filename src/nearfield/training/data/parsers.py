"""From the rows of a file to training data: one parser for each form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.evaluation.datasets.loaders import parse_similarity, text_id
from nearfield.evaluation.datasets.rows import DatasetRow, finite_number
from nearfield.message_text import count_of
from nearfield.training.data.columns import TrainingForm, numbered_negatives
from nearfield.training.training_data import TrainingData

RowParser: TypeAlias = Callable[[str, Sequence[DatasetRow]], TrainingData]


class RankingBuilder:
    """Queries and documents collected row by row; equal texts have one id."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.queries: dict[str, str] = {}
        self.relevant: dict[str, dict[str, int]] = {}
        self.sources: dict[str, str] = {}
        self.teacher_scores: dict[str, dict[str, float]] = {}

    def add(self, row: DatasetRow, query: str, document: str, grade: int) -> str:
        """Add a judgment, and return the id of its document.

        Raises:
            InputError: the same query and document were judged before, with another grade.
        """
        key, query_key = text_id("d", document), text_id("q", query)
        self.documents[key], self.queries[query_key] = document, query
        if self.relevant.setdefault(query_key, {}).setdefault(key, grade) != grade:
            raise row.error(
                f"query {query[:60]!r} and document {document[:60]!r} are there twice, with grades "
                f"{self.relevant[query_key][key]} and {grade}. Remove one of the rows."
            )
        if "source" in row.values:
            self.sources[key] = row.text("source")
        return key

    def add_teacher_scores(self, query: str, keys: Sequence[str], scores: Sequence[float]) -> None:
        """Add a teacher's scores of some documents of a query."""
        self.teacher_scores.setdefault(text_id("q", query), {}).update(zip(keys, scores, strict=True))

    def build(self, name: str, synthetic: str | None = None) -> TrainingData:
        """Return what was collected."""
        rows = Retrieval(self.documents, self.queries, self.relevant)
        return TrainingData(name, rows, self.sources, self.teacher_scores, synthetic)


def parse_ranking(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return pairs, triplets and longer rows as judgments: 1 (or the ``score``) for positives, 0 for negatives."""
    builder = RankingBuilder()
    for row in rows:
        query = row.text("query")
        grade = row.int_value("score") if "score" in row.values else 1
        positives, negatives = row.texts("positive"), _negatives(row)
        for side, texts, value in (("positive", positives, grade), ("negative", negatives, 0)):
            keys = [builder.add(row, query, text, value) for text in texts]
            if (scores := _teacher_scores(row, f"{side}_scores", len(texts))) is not None:
                builder.add_teacher_scores(query, keys, scores)
    return builder.build(name)


def parse_same_meaning(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return pairs of texts of the same meaning; the first of each pair stands as the query."""
    builder = RankingBuilder()
    for row in rows:
        builder.add(row, row.text("first"), row.text("second"), 1)
    return builder.build(name)


def parse_clicks(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return a click log as judgments: clicked results are positives, results shown above a click are negatives.

    People read from the top, so that a result below the last click may not have been seen and says nothing
    (Joachims 2002, "click > skip above"). A result that any row of the same query clicked is no negative.
    """
    builder, skipped = RankingBuilder(), list[tuple[DatasetRow, str, str]]()
    for row in rows:
        query, shown = row.text("query"), row.texts("shown")
        clicked = _clicked(row, shown)
        for text in clicked:
            builder.add(row, query, text, 1)
        last = max((shown.index(text) for text in clicked), default=0)
        skipped += [(row, query, text) for text in shown[:last] if text not in clicked]
    for row, query, text in skipped:
        if text_id("d", text) not in builder.relevant.get(text_id("q", query), {}):
            builder.add(row, query, text, 0)
    if not builder.relevant:
        raise InputError(
            f"{name}: nothing was clicked in {len(rows)} rows: there is nothing to learn from.", param="data"
        )
    return builder.build(name)


def parse_labels(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return texts with one label each."""
    labelled = Labelled([row.text("text") for row in rows], [row.text("label") for row in rows])
    return TrainingData(name, labelled, _row_sources(rows))


def parse_scores(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return pairs with their scores."""
    return _pairs(name, rows, [row.float_value("score") for row in rows])


def parse_similar(name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return pairs labelled similar or dissimilar, as scores of 1 and 0."""
    return _pairs(name, rows, [parse_similarity(row) for row in rows])


PARSERS: Mapping[str, RowParser] = {
    "clicks": parse_clicks,
    "ranking": parse_ranking,
    "scores": parse_scores,
    "similar": parse_similar,
    "labels": parse_labels,
    "same meaning": parse_same_meaning,
}


def parse_rows(form: TrainingForm, name: str, rows: Sequence[DatasetRow]) -> TrainingData:
    """Return the rows of a file, whose columns have the names of their roles, as training data."""
    return PARSERS[form.name](name, rows)


def _negatives(row: DatasetRow) -> list[str]:
    names = ["negative", *numbered_negatives(map(str, row.values))]
    # A row without a negative has an empty cell, an empty list or null.
    filled = [name for name in names if row.values.get(name) not in (None, "", [])]
    return list(dict.fromkeys(text for name in filled for text in row.texts(name)))


def _teacher_scores(row: DatasetRow, name: str, count: int) -> list[float] | None:
    scores = row.values.get(name)
    if scores is None:
        return None
    numbers = [finite_number(score) for score in (scores if isinstance(scores, list) else [scores])]
    known = [number for number in numbers if number is not None]
    if not len(known) == len(numbers) == count:
        raise row.error(f"{name} should be {count_of(count, 'finite number')}, one for each text.")
    return known


def _clicked(row: DatasetRow, shown: Sequence[str]) -> list[str]:
    """Return the clicked texts, which a log has as texts, as positions from 0, or as a flag for each shown text."""
    value = row.values.get("clicked")
    if value is None or value == []:
        return []
    values = value if isinstance(value, list) else [value]
    if len(values) == len(shown) and all(isinstance(flag, bool) for flag in values):
        return [text for text, flag in zip(shown, values, strict=True) if flag]
    return [_clicked_text(row, one, shown) for one in values]


def _clicked_text(row: DatasetRow, value: object, shown: Sequence[str]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(shown):
        return shown[value]
    if isinstance(value, str) and value in shown:
        return value
    raise row.error(
        f"clicked has {str(value)[:60]!r}, which is no shown text, and no position from 0 to {len(shown) - 1}."
    )


def _pairs(name: str, rows: Sequence[DatasetRow], scores: Sequence[float]) -> TrainingData:
    first, second = [row.text("first") for row in rows], [row.text("second") for row in rows]
    return TrainingData(name, PairRows(first, second, list(scores)), _row_sources(rows))


def _row_sources(rows: Iterable[DatasetRow]) -> dict[str, str]:
    return {str(number): row.text("source") for number, row in enumerate(rows) if "source" in row.values}

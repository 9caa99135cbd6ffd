"""Split training data by source, so that no document has rows on both sides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.message_text import count_of
from nearfield.training.training_data import TrainingData


def split_by_source(data: TrainingData, share: float, seed: int) -> tuple[TrainingData, TrainingData]:
    """Return the rest and a held-out part of about ``share`` of the rows; each source is on one side only.

    A query with positives in several sources joins them: they stay together. All documents of ranking data stay on
    both sides as a corpus; the judgments are split. The rows of labels are split class by class where sources allow
    it, so that each class of the held-out part has rows to learn from.

    Args:
        data: any shape.
        share: of rows to hold out, above 0 and below 1.
        seed: of the choice; the same seed gives the same split.

    Raises:
        InputError: the share is out of range, or all rows come from one source.
    """
    if not 0 < share < 1:
        raise InputError(f"share is a number between 0 and 1, and is {share}.", param="share")
    groups = row_groups(data)
    if len(groups) < 2:
        raise InputError(
            f"Training data {data.name!r}: all {sum(map(len, groups))} rows come from one document, so that no part "
            "can be held out for measuring. Add rows of other documents, or give a separate set.",
            param="data",
        )
    _require_texts_on_both_sides(data)
    chosen = _choose(groups, _classes(data), share, random.Random(seed))
    held_out = {key for number in chosen for key in groups[number]}
    rest = {key for group in groups for key in group} - held_out
    return select_rows(data, rest), select_rows(data, held_out)


def _require_texts_on_both_sides(data: TrainingData) -> None:
    """Raise InputError unless two labels have two texts: one to learn from, and one that is held out."""
    counts = Counter(data.rows.labels) if isinstance(data.rows, Labelled) else None
    if counts is not None and sum(count > 1 for count in counts.values()) < 2:
        raise InputError(
            f"Training data {data.name!r}: of {count_of(len(counts), 'label')}, at least two need two texts each: one "
            "to learn from, and one that is held out for measuring. Are the columns of texts and labels exchanged?",
            param="data",
        )


def row_groups(data: TrainingData) -> list[list[str]]:
    """Return the keys of rows (queries, or numbers of rows) that belong together, in the order of the data."""
    if isinstance(data.rows, Retrieval):
        return _query_groups(data, data.rows)
    groups: dict[str, list[str]] = defaultdict(list)
    count = len(data.rows.labels if isinstance(data.rows, Labelled) else data.rows.gold)
    for number in range(count):
        groups[data.source_of(str(number))].append(str(number))
    return list(groups.values())


def select_rows(data: TrainingData, keys: Collection[str]) -> TrainingData:
    """Return the rows with these keys (ids of queries, or numbers of rows as strings), in the order of the data."""
    if isinstance(data.rows, Retrieval):
        return _select_queries(data, data.rows, keys)
    count = len(data.rows.labels if isinstance(data.rows, Labelled) else data.rows.gold)
    numbers = [number for number in range(count) if str(number) in keys]
    sources = {str(new): data.sources[str(old)] for new, old in enumerate(numbers) if str(old) in data.sources}
    return TrainingData(data.name, _select_numbers(data.rows, numbers), sources, {}, data.synthetic)


# -- queries -------------------------------------------------------------------------------------------------------


def _query_groups(data: TrainingData, rows: Retrieval) -> list[list[str]]:
    """Return queries by connected sources: a query joins the sources of all its positives."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    places = {query: _positive_sources(data, judged) for query, judged in rows.relevant.items()}
    for query, sources in places.items():
        for source in sources:
            parents[root(source)] = root(f"query {query}")
    groups: dict[str, list[str]] = defaultdict(list)
    for query in places:
        groups[root(f"query {query}")].append(query)
    return list(groups.values())


def _positive_sources(data: TrainingData, judged: Mapping[str, int]) -> list[str]:
    return [f"source {data.source_of(document)}" for document, grade in judged.items() if grade > 0]


def _select_queries(data: TrainingData, rows: Retrieval, keys: Collection[str]) -> TrainingData:
    queries = {query: text for query, text in rows.queries.items() if query in keys}
    relevant = {query: judged for query, judged in rows.relevant.items() if query in keys}
    scores = {query: by_document for query, by_document in data.teacher_scores.items() if query in keys}
    return TrainingData(data.name, Retrieval(rows.documents, queries, relevant), data.sources, scores, data.synthetic)


# -- rows ----------------------------------------------------------------------------------------------------------


def _select_numbers(rows: Labelled | PairRows, numbers: Sequence[int]) -> Labelled | PairRows:
    if isinstance(rows, Labelled):
        return Labelled([rows.texts[number] for number in numbers], [rows.labels[number] for number in numbers])
    first, second = ([column[number] for number in numbers] for column in (rows.first, rows.second))
    return PairRows(first, second, [rows.gold[number] for number in numbers])


def _classes(data: TrainingData) -> Mapping[str, str]:
    """Return the class of each row by its key; none but for labels."""
    return {str(n): label for n, label in enumerate(data.rows.labels)} if isinstance(data.rows, Labelled) else {}


def _choose(
    groups: Sequence[Sequence[str]], classes: Mapping[str, str], share: float, chance: random.Random
) -> list[int]:
    """Return the numbers of groups to hold out, class by class; at least one group and never all of a class."""
    by_class: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        by_class[classes.get(group[0], "")].append(number)
    chosen = [number for members in by_class.values() for number in _sample(groups, members, share, chance)]
    return sorted(chosen or [chance.randrange(len(groups))])


def _sample(groups: Sequence[Sequence[str]], members: Sequence[int], share: float, chance: random.Random) -> list[int]:
    order = chance.sample(members, len(members))[: len(members) - 1]
    limit = share * sum(len(groups[number]) for number in members)
    taken, rows = list[int](), 0
    for number in order:
        # The group that passes the share is taken if that comes closer to it.
        if rows + len(groups[number]) / 2 > limit:
            break
        taken.append(number)
        rows += len(groups[number])
    return taken

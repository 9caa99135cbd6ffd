"""Figures of all models for all purposes, published or estimated, with the error that hiding known figures shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages import is_multilingual
from tools.quality.factors import Estimated, estimate
from tools.quality.purposes import RELATED, Purpose
from tools.quality.scores import RawScores, Task

#: Numbers of factors whose estimates are averaged: none is the best for all purposes.
FACTORS = (3, 4, 6)
FOLDS = 4
#: A column with fewer figures says too little.
_FEWEST = 8
#: Models with a whole figure below which nothing can be hidden.
_FEWEST_HIDDEN = 8


@dataclass(frozen=True)
class ScoreTable:
    """Figures [models, columns], NaN where there is none. ``columns`` are tasks, means, and facts of the models."""

    models: Sequence[str]
    columns: Mapping[object, int]
    values: Array

    def places(self, tasks: Sequence[Task]) -> Array:
        """Return the columns of tasks."""
        return np.asarray([self.columns[task] for task in tasks])


@dataclass(frozen=True)
class Figure:
    """A model's figure: its value, standard error, and how many of the purpose's tasks are published."""

    value: float
    error: float
    published: int
    tasks: int


@dataclass(frozen=True)
class HeldOut:
    """How well hidden figures are estimated: number, spread, root mean square error, rank correlation, widening.

    ``widening`` is by how much the errors that the factor analysis states are too small.
    """

    count: int
    spread: float
    error: float
    ranks: float
    widening: float


def build_table(
    scores: RawScores, purposes: Sequence[Purpose], entries: Mapping[str, CatalogEntry | None]
) -> ScoreTable:
    """Return the table of all models that have a figure for a purpose."""
    tasks = list(dict.fromkeys(task for purpose in purposes for task in purpose.tasks))
    rows = {
        model: [
            *(scores.mean(model, task) for task in tasks),
            *(scores.means.get(model, {}).get(key, (float("nan"),))[0] for key in RELATED),
            *_facts(entries.get(model)),
        ]
        for model in sorted(scores.cells)
    }
    rows = {model: row for model, row in rows.items() if not np.isnan(row[: len(tasks)]).all()}
    values = np.asarray(list(rows.values()))
    keys: list[object] = [*tasks, *RELATED, *range(len(values[0]) - len(tasks) - len(RELATED))]
    return ScoreTable(list(rows), {key: at for at, key in enumerate(keys)}, values)


def _facts(entry: CatalogEntry | None) -> tuple[float, ...]:
    """Return facts of a model that say something about its figures; NaN where they are unknown."""
    if entry is None:
        return (float("nan"),) * 4
    size = np.log10(entry.parameters) if entry.parameters else float("nan")
    return (size, float(entry.family == "static"), float(is_multilingual(entry)), float(np.log10(entry.max_length)))


@dataclass(frozen=True)
class Fits:
    """Several factor analyses of one table: ``middle`` is their median, ``kept`` the columns that they have."""

    middle: Array
    fits: Sequence[Estimated]
    kept: Array

    def error(self, row: int, places: Array, tasks: int) -> float:
        """Return the standard error that they state for a mean over ``tasks``, of which ``places`` are estimated."""
        inside = np.flatnonzero(np.isin(self.kept, places))
        return float(np.mean([fit.error(row, inside, tasks) for fit in self.fits]))


def fit_table(values: Array) -> Fits:
    """Estimate all cells of a table [models, columns]."""
    kept = np.flatnonzero((~np.isnan(values)).sum(0) >= _FEWEST)
    fits = [estimate(values[:, kept], factors) for factors in FACTORS]
    middle = np.full(values.shape, np.nan)
    middle[:, kept] = np.median([fit.values for fit in fits], axis=0)
    return Fits(middle, fits, kept)


#: What is left of a model whose figures are hidden: its other tasks; means over benchmarks, as cards have them, and the
#: facts of its shape; those facts alone.
LEFT = ("other tasks", "means and shape", "shape")


def hold_out(table: ScoreTable, purpose: Purpose, related: Collection[Purpose], left: str = LEFT[0]) -> HeldOut | None:
    """Hide a purpose's tasks from a quarter of the models that have all of them, in turn, and compare the estimates.

    ``related`` are purposes that share tasks with it: what hides one hides those tasks. ``left``, one of ``LEFT``, is
    what remains of the models. None if too few models are whole.
    """
    places = table.places(purpose.tasks)
    hidden_too = _shared(table, purpose, related) if left == LEFT[0] else _all_but(table, left)
    whole = np.flatnonzero(~np.isnan(table.values[:, places]).any(1))
    if len(whole) < _FEWEST_HIDDEN:
        return None
    folds = np.random.default_rng(0).permutation(len(whole)) % FOLDS
    truth, found, stated = [], [], []
    for fold in range(FOLDS):
        rows = whole[folds == fold]
        values = table.values.copy()
        values[np.ix_(rows, hidden_too)] = np.nan
        fits = fit_table(values)
        for row in rows:
            truth.append(table.values[row, places].mean())
            found.append(np.nanmean(np.clip(fits.middle[row, places], 0, 100)))
            stated.append(fits.error(row, places, len(places)))
    differences = np.asarray(truth) - np.asarray(found)
    error = float(np.sqrt((differences**2).mean()))
    return HeldOut(
        len(truth),
        float(np.std(truth)),
        error,
        _rank_correlation(truth, found),
        max(1.0, error / float(np.mean(stated))),
    )


def _all_but(table: ScoreTable, left: str) -> Array:
    """Return the columns of all tasks; without means over benchmarks too if the shape alone is left."""
    hidden = [at for key, at in table.columns.items() if isinstance(key, Task) or (left == LEFT[2] and key in RELATED)]
    return np.asarray(sorted(hidden))


def _shared(table: ScoreTable, purpose: Purpose, related: Collection[Purpose]) -> Array:
    """Return the columns of a purpose's tasks, and of means over benchmarks of the same language."""
    columns = set(table.places(purpose.tasks).tolist())
    if purpose.language == "en":
        columns |= {table.columns[key] for key in RELATED if "Multilingual" not in key[0]}
    for other in related:
        if other.language == purpose.language and set(other.tasks) <= set(purpose.tasks):
            columns |= set(table.places(other.tasks).tolist())
    return np.asarray(sorted(columns))


def _rank_correlation(truth: Sequence[float], found: Sequence[float]) -> float:
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (truth, found)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def figures(
    table: ScoreTable, fits: Fits, purpose: Purpose, held: HeldOut | None, claims: Collection[str]
) -> Iterator[tuple[str, Figure]]:
    """Yield a purpose's figure of each model: means of whole purposes, and estimates for the models in ``claims``.

    An estimate's error is at least the error of hidden figures times the share of tasks that are not published. An
    estimate is at most the best published figure. Without a measure of its error, nothing is estimated.
    """
    places = table.places(purpose.tasks)
    known = ~np.isnan(table.values[:, places])
    whole = np.asarray(known.all(axis=1))
    best = table.values[whole][:, places].mean(1).max(initial=0.0)
    for row, model in enumerate(table.models):
        count = int(known[row].sum())
        if whole[row]:
            yield model, Figure(float(table.values[row, places].mean()), 0.0, count, len(places))
        elif held is not None and model in claims:
            missing = places[~known[row]]
            if np.isnan(fits.middle[row, missing]).any():
                continue
            filled = np.where(known[row], table.values[row, places], np.clip(fits.middle[row, places], 0, 100))
            stated = fits.error(row, missing, len(places)) * held.widening
            error = max(stated, held.error * len(missing) / len(places))
            yield model, Figure(float(min(filled.mean(), best)), error, count, len(places))

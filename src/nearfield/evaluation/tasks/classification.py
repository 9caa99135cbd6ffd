"""Classification: how well a logistic regression tells labels by vectors alone, in MTEB's protocol."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import error_analysis, metrics
from nearfield.evaluation.datasets.dataset import Classification, Labelled
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import SEED, EvaluationTask, TaskOptions, TaskResult, column

MAIN = "accuracy"
#: Texts of each label that a draw learns from, and draws; as MTEB's AbsTaskClassification.
PER_LABEL, DRAWS = 8, 10
#: Iterations of the regression, of a few texts and of all: the more there is to learn from, the more it takes.
ITERATIONS, ITERATIONS_FULL = 100, 1000


class ClassificationTask(EvaluationTask):
    """Measures the mean accuracy and macro F1 of ten probes, each of which learnt from 8 texts of each label.

    With ``full``, one probe learns from all training texts.
    """

    rows: ClassVar[type] = Classification
    item: ClassVar[str] = "text"

    def measure(self, subject: InstrumentedSystem, rows: Classification, options: TaskOptions) -> TaskResult:
        names = sorted(set(rows.train.labels))
        numbers = {name: number for number, name in enumerate(names)}
        learnt, gold = (np.array([numbers[each] for each in side.labels]) for side in (rows.train, rows.test))
        draws = [list(range(len(learnt)))] if options.full else draw(rows.train.labels, SEED + options.seed)
        used = sorted({at for each in draws for at in each})
        places = {at: place for place, at in enumerate(used)}
        train = subject.vectors([rows.train.texts[at] for at in used], "symmetric")
        test = subject.vectors(rows.test.texts, "symmetric")
        iterations = ITERATIONS_FULL if options.full else ITERATIONS
        told = [_predicted(train[[places[at] for at in each]], learnt[each], test, iterations) for each in draws]
        right = np.mean([predicted == gold for predicted in told], axis=0)
        columns = {MAIN: column(100 * right)}
        settings = {"full": options.full, "draws": len(draws), "per_label": None if options.full else PER_LABEL}
        missed = _worst(rows.test, columns[MAIN], [[names[each[at]] for each in told] for at in range(len(gold))])
        return TaskResult(MAIN, figures(gold, told), columns, missed[: options.worst], settings)


def draw(labels: Sequence[str], seed: int, per_label: int = PER_LABEL, draws: int = DRAWS) -> list[list[int]]:
    """Return the places of the texts of each draw: those that MTEB draws, where ``seed`` is 42.

    MTEB shuffles what the last draw left, each time by a generator of the same seed.
    """
    places, found = list(range(len(labels))), []
    for _ in range(draws):
        np.random.RandomState(seed).shuffle(places)
        counts: Counter[str] = Counter()
        chosen = []
        for at in places:
            if counts[labels[at]] < per_label:
                chosen.append(at)
                counts[labels[at]] += 1
        found.append(chosen)
    return found


def figures(gold: Array, predictions: Sequence[Array]) -> dict[str, float]:
    """Return the means over draws, in points: accuracy, macro F1, and average precision of two labels.

    The last is that of the predicted labels, not of their probabilities, as MTEB has it.
    """
    sklearn = metrics.library("sklearn.metrics")
    told = {
        MAIN: [sklearn.accuracy_score(gold, each) for each in predictions],
        "F1": [sklearn.f1_score(gold, each, average="macro", zero_division=0) for each in predictions],
    }
    if len(np.unique(gold)) == 2 and gold.max() == 1:
        told["AP"] = [sklearn.average_precision_score(gold, each) for each in predictions]
    return {name: 100 * float(np.mean(values)) for name, values in told.items()}


def _predicted(train: Array, labels: Array, test: Array, iterations: int) -> Array:
    probe = metrics.library("sklearn.linear_model").LogisticRegression(max_iter=iterations)
    with warnings.catch_warnings():
        # The protocol ends after so many iterations, converged or not.
        warnings.simplefilter("ignore", metrics.library("sklearn.exceptions").ConvergenceWarning)
        found: Array = probe.fit(train, labels).predict(test)
    return found


def _worst(test: Labelled, scores: Any, predicted: list[list[str]]) -> list[dict[str, Any]]:
    return [
        {
            "id": key,
            "text": error_analysis.shown(test.texts[int(key)]),
            "score": scores[key],
            "expected": [{"label": test.labels[int(key)]}],
            "found": [{"label": name, "draws": count} for name, count in Counter(predicted[int(key)]).most_common(3)],
        }
        for key in error_analysis.worst_items(scores, len(scores))
    ]

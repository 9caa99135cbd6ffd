"""The classification task: logistic regression on vectors, by MTEB's protocol."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import error_analysis, metrics
from nearfield.evaluation.datasets.dataset import Classification, Labelled
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import SEED, EvaluationTask, TaskOptions, TaskResult, column

MAIN = "accuracy"
#: Training texts of each label in a draw, and draws, as in MTEB's AbsTaskClassification.
PER_LABEL, DRAWS = 8, 10
#: Iterations of the regression on the texts of a draw, and on all training texts, which need more.
ITERATIONS, ITERATIONS_FULL = 100, 1000


class ClassificationTask(EvaluationTask):
    """Measures the mean accuracy and macro F1 of ten classifiers, each trained on 8 texts of each label.

    With ``full``, one classifier is trained on all training texts.
    """

    rows: ClassVar[type] = Classification
    item: ClassVar[str] = "text"

    def measure(self, system: InstrumentedSystem, rows: Classification, options: TaskOptions) -> TaskResult:
        names = sorted(set(rows.train.labels))
        numbers = {name: number for number, name in enumerate(names)}
        learnt, gold = (np.array([numbers[label] for label in side.labels]) for side in (rows.train, rows.test))
        draws = [list(range(len(learnt)))] if options.full else draw(rows.train.labels, SEED + options.seed)
        used = sorted({at for chosen in draws for at in chosen})
        places = {at: place for place, at in enumerate(used)}
        train = system.vectors([rows.train.texts[at] for at in used], "symmetric")
        test = system.vectors(rows.test.texts, "symmetric")
        iterations = ITERATIONS_FULL if options.full else ITERATIONS
        predictions = [
            _predict(train[[places[at] for at in chosen]], learnt[chosen], test, iterations) for chosen in draws
        ]
        right = np.mean([predicted == gold for predicted in predictions], axis=0)
        columns = {MAIN: column(100 * right)}
        settings = {"full": options.full, "draws": len(draws), "per_label": None if options.full else PER_LABEL}
        labels = [[names[predicted[at]] for predicted in predictions] for at in range(len(gold))]
        worst = _worst(rows.test, columns[MAIN], labels)
        first = {str(at): [name for name, _ in Counter(drawn).most_common(1)] for at, drawn in enumerate(labels)}
        return TaskResult(MAIN, figures(gold, predictions), columns, worst[: options.worst], settings, first=first)


def draw(labels: Sequence[str], seed: int, per_label: int = PER_LABEL, draws: int = DRAWS) -> list[list[int]]:
    """Return the positions of the texts of each draw; with the seed 42, they are MTEB's.

    As in MTEB, each draw shuffles the order of the one before, by a generator of the same seed.
    """
    places, drawn = list(range(len(labels))), []
    for _ in range(draws):
        np.random.RandomState(seed).shuffle(places)
        counts: Counter[str] = Counter()
        chosen = []
        for at in places:
            if counts[labels[at]] < per_label:
                chosen.append(at)
                counts[labels[at]] += 1
        drawn.append(chosen)
    return drawn


def figures(gold: Array, predictions: Sequence[Array]) -> dict[str, float]:
    """Return the means over draws, in points: accuracy, macro F1, and average precision of two labels.

    As in MTEB, average precision is that of the predicted labels, not of their probabilities.
    """
    sklearn = metrics.library("sklearn.metrics")
    values = {
        MAIN: [sklearn.accuracy_score(gold, predicted) for predicted in predictions],
        "F1": [sklearn.f1_score(gold, predicted, average="macro", zero_division=0) for predicted in predictions],
    }
    if len(np.unique(gold)) == 2 and gold.max() == 1:
        values["AP"] = [sklearn.average_precision_score(gold, predicted) for predicted in predictions]
    return {name: 100 * float(np.mean(draws)) for name, draws in values.items()}


def _predict(train: Array, labels: Array, test: Array, iterations: int) -> Array:
    probe = metrics.library("sklearn.linear_model").LogisticRegression(max_iter=iterations)
    with warnings.catch_warnings():
        # The protocol ends after this number of iterations, converged or not.
        warnings.simplefilter("ignore", metrics.library("sklearn.exceptions").ConvergenceWarning)
        predicted: Array = probe.fit(train, labels).predict(test)
    return predicted


def _worst(test: Labelled, scores: Mapping[str, float], predicted: list[list[str]]) -> list[JsonDict]:
    return [
        {
            "id": key,
            "text": error_analysis.shorten(test.texts[int(key)]),
            "score": scores[key],
            "expected": [{"label": test.labels[int(key)]}],
            "found": [{"label": name, "draws": count} for name, count in Counter(predicted[int(key)]).most_common(3)],
        }
        for key in error_analysis.worst_items(scores, len(scores))
    ]

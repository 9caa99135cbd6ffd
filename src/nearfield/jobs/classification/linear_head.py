"""`LinearHead`: one linear layer on frozen vectors, by scikit-learn's logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.inference.calls.rerank_options import activate
from nearfield.jobs.libraries import library

#: Weights [labels, dim] and biases [labels].
Weights: TypeAlias = tuple[Array, Array]
#: Iterations of the regression.
_ITERATIONS = 300
#: The logit of a label that no example of a part has, or all have.
_CONSTANT_LOGIT = 12.0


@dataclass(frozen=True)
class LinearHead:
    """Weights [labels, dim] and biases [labels], float32, of unit vectors to logits.

    With ``several`` each label is judged alone, by a sigmoid; otherwise one of them fits, by a softmax.
    """

    labels: tuple[str, ...]
    weight: Array
    bias: Array
    several: bool

    def logits(self, vectors: Array) -> Array:
        """Return logits [n, labels] of unit vectors [n, dim]."""
        return np.asarray(vectors @ self.weight.T + self.bias, np.float32)

    def probabilities(self, vectors: Array) -> Array:
        """Return probabilities [n, labels]."""
        return to_probabilities(self.logits(vectors), self.several)

    def tempered(self, temperature: float) -> LinearHead:
        """Return the head with logits divided by a temperature: the order of labels stays, confidence changes."""
        return replace(self, weight=self.weight / np.float32(temperature), bias=self.bias / np.float32(temperature))


def to_probabilities(logits: Array, several: bool) -> Array:
    """Return probabilities of logits [n, labels]."""
    return activate(np.asarray(logits, np.float32), "sigmoid" if several else "softmax")


def fit_head(vectors: Array, targets: Array, labels: tuple[str, ...], several: bool, strength: float) -> LinearHead:
    """Fit a head; ``strength`` is the inverse of the regularisation, C of scikit-learn. Arguments as ``fit_heads``."""
    return fit_heads(vectors, targets, labels, several, (strength,))[0]


def fit_heads(
    vectors: Array, targets: Array, labels: tuple[str, ...], several: bool, strengths: Sequence[float]
) -> list[LinearHead]:
    """Fit a head for each strength, the smallest first: each fit begins with the weights of the one before.

    Args:
        vectors: float32 [n, dim], of unit length.
        targets: bool [n, labels].
        labels: their names.
        several: whether a text may have several labels.
        strengths: inverses of the regularisation, rising.
    """
    fits = (_fit_each if several else _fit_one)(vectors, targets, strengths)
    return [LinearHead(labels, weight.astype(np.float32), bias.astype(np.float32), several) for weight, bias in fits]


def _fit_one(vectors: Array, targets: Array, strengths: Sequence[float]) -> list[Weights]:
    """Fit labels of which one fits; one without an example is never chosen."""
    classes, fits = _regressions(vectors, targets.argmax(1), strengths)
    return [_all_labels(classes, weight, bias, targets.shape[1]) for weight, bias in fits]


def _all_labels(classes: Array, weight: Array, bias: Array, count: int) -> Weights:
    """Return weights of all labels from those of the labels with examples."""
    if len(classes) == 2:  # one row, of the second
        weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
    rows = np.zeros((count, weight.shape[1]))
    biases = np.full(count, bias.min() - _CONSTANT_LOGIT)
    rows[classes], biases[classes] = weight, bias
    return rows, biases


def _fit_each(vectors: Array, targets: Array, strengths: Sequence[float]) -> list[Weights]:
    """Fit each label against all texts without it."""
    labels = [_fit_label(vectors, column, strengths) for column in targets.T]
    return [
        (np.vstack([fits[place][0] for fits in labels]), np.concatenate([fits[place][1] for fits in labels]))
        for place in range(len(strengths))
    ]


def _fit_label(vectors: Array, column: Array, strengths: Sequence[float]) -> list[Weights]:
    if column.all() or not column.any():
        logit = _CONSTANT_LOGIT if column.all() else -_CONSTANT_LOGIT
        return [(np.zeros((1, vectors.shape[1])), np.array([logit]))] * len(strengths)
    return _regressions(vectors, column, strengths)[1]


def _regressions(vectors: Array, values: Array, strengths: Sequence[float]) -> tuple[Array, list[Weights]]:
    """Return the classes, and weights and biases of logistic regressions."""
    model = library("sklearn.linear_model").LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    fits = []
    with warnings.catch_warnings():
        # Figures are measured with this number of iterations, converged or not.
        warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=strength).fit(vectors, values)
            fits.append((model.coef_.copy(), model.intercept_.copy()))
    return model.classes_, fits

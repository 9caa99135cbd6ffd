"""`LinearHead`: one linear layer on frozen vectors, by scikit-learn's logistic regression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from nearfield.arrays import Array
from nearfield.inference.calls.rerank_options import activate
from nearfield.jobs.libraries import library

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
    """Fit a head; ``strength`` is the inverse of the regularisation, C of scikit-learn.

    Args:
        vectors: float32 [n, dim], of unit length.
        targets: bool [n, labels].
    """
    weight, bias = (_fit_each if several else _fit_one)(vectors, targets, strength)
    return LinearHead(labels, weight.astype(np.float32), bias.astype(np.float32), several)


def _fit_one(vectors: Array, targets: Array, strength: float) -> tuple[Array, Array]:
    """Fit labels of which one fits; one without an example is never chosen."""
    classes, weight, bias = _regression(vectors, targets.argmax(1), strength)
    if len(classes) == 2:  # one row, of the second
        weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
    rows = np.zeros((targets.shape[1], vectors.shape[1]))
    biases = np.full(targets.shape[1], bias.min() - _CONSTANT_LOGIT)
    rows[classes], biases[classes] = weight, bias
    return rows, biases


def _fit_each(vectors: Array, targets: Array, strength: float) -> tuple[Array, Array]:
    """Fit each label against all texts without it."""
    rows = [_fit_label(vectors, column, strength) for column in targets.T]
    return np.vstack([weight for weight, _ in rows]), np.concatenate([bias for _, bias in rows])


def _fit_label(vectors: Array, column: Array, strength: float) -> tuple[Array, Array]:
    if column.all() or not column.any():
        logit = _CONSTANT_LOGIT if column.all() else -_CONSTANT_LOGIT
        return np.zeros((1, vectors.shape[1])), np.array([logit])
    _, weight, bias = _regression(vectors, column, strength)
    return weight, bias


def _regression(vectors: Array, values: Array, strength: float) -> tuple[Array, Array, Array]:
    """Return the classes, weights and biases of a logistic regression."""
    model = library("sklearn.linear_model").LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # Figures are measured with this number of iterations, converged or not.
        warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
        model.fit(vectors, values)
    return model.classes_, model.coef_, model.intercept_

"""Options of `Reranker.score` and `Classifier.predict` (`RerankOptions`), and the activations of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest

ACTIVATIONS = ("identity", "sigmoid", "softmax", "tanh")
TRUNCATE = ("report", "error")


class RerankKeywords(TypedDict, total=False):
    """The keywords of ``Reranker.score``: the fields of `RerankOptions`."""

    activation: str | None
    truncate: str
    adapter: str | None
    prompt: str | None
    max_length: int | None


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """Options of one call of ``Reranker.score`` or ``Classifier.predict``.

    Args:
        activation: identity, sigmoid, softmax or tanh; None for the model's own.
        truncate: ``report`` (cut the end, or the side that the model's folder names, and count it in
            ``Scores.dropped``) or ``error``.
        adapter: the name of a loaded adapter.
        prompt: text before each query; None for the model's default. A language model with a template reads it as its
            instruction.
        max_length: tokens to read of each pair, if fewer than the model reads.
    """

    activation: str | None = None
    truncate: str = "report"
    adapter: str | None = None
    prompt: str | None = None
    max_length: int | None = None


def activate(logits: Array, name: str) -> Array:
    """Return scores from logits [..., labels]: identity, sigmoid, softmax over the last axis, or tanh, in float32.

    Raises:
        InputError: there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"Unknown activation {name!r}. {nearest(name, ACTIVATIONS)}", param="activation")
    if name == "sigmoid":
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    if name == "softmax":
        raised = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(raised / raised.sum(-1, keepdims=True))
    return np.tanh(logits) if name == "tanh" else logits

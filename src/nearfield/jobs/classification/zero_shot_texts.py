"""Classification of texts without examples: each text gets the label whose name or description is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.calls.zero_shot import class_vectors, label_prompts
from nearfield.jobs.classification.label_prediction import LabelPrediction, build_predictions
from nearfield.jobs.job_vectors import encode_texts, texts_in_space
from nearfield.text_inputs import many_texts

#: Names of labels, or names with a description that stands for each.
LabelsLike: TypeAlias = "Sequence[str] | Mapping[str, str]"
#: Cosines by which the nearest label is ahead of the second; below it a prediction is unsure.
MARGIN = 0.02


def classify_by_names(
    encoder: Encoder,
    texts: Sequence[str],
    labels: LabelsLike,
    templates: str | Sequence[str] | None = None,
    *,
    vectors: ArrayLike | None = None,
    margin: float = MARGIN,
    progress: bool = False,
) -> list[LabelPrediction]:
    """Return the nearest label of each text; scores are cosines, no probabilities.

    Names and texts are read with the model's prompt for classification, if it has one. ``vectors`` are those of the
    texts, if there are any.

    Raises:
        InputError: there is no label, or one twice; or a template has no place for the label.
        SpaceMismatch: the vectors are of another space than the model's.
    """
    names, sentences = label_sentences(labels, templates)
    classes = encode_texts(encoder, sentences, "classification")
    rows = texts_in_space(encoder, texts, vectors, "classification", progress=progress)
    return label_rows(rows, classes, names, margin)


def label_rows(rows: Array, classes: Array, names: Sequence[str], margin: float = MARGIN) -> list[LabelPrediction]:
    """Return the nearest label of each vector; ``classes`` are the vectors of all sentences of the labels, in order."""
    scores = rows @ class_vectors(classes, len(names)).T
    return build_predictions(names, scores, _margins(scores) < margin)


def label_sentences(labels: LabelsLike, templates: str | Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Return the names of labels, and the sentences that stand for them."""
    described = labels if isinstance(labels, Mapping) else None
    patterns = "{}" if templates is None else templates
    names, sentences = label_prompts(labels if described is None else list(described), patterns, ())
    if described is None:
        return names, sentences
    descriptions = many_texts([described[name] for name in names], "labels", "Description")
    blank = next((name for name, text in zip(names, descriptions, strict=True) if not text.strip()), None)
    if blank is not None:
        raise InputError(f"The description of {blank!r} is empty: leave it out, or describe it.", param="labels")
    return names, label_prompts(descriptions, patterns, ())[1]


def _margins(scores: Array) -> Array:
    """Return by how much the best score of each row is ahead of the second; infinite for a single label."""
    if scores.shape[1] == 1:
        return np.full(len(scores), np.inf)
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)

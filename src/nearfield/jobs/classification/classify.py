"""`classify` and `next_to_label`: labels of texts, and which texts a person should label next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.attach import open_classifier
from nearfield.errors import InputError
from nearfield.jobs.classification.classifier_folder import read_threshold
from nearfield.jobs.classification.examples import ExamplesLike, read_examples
from nearfield.jobs.classification.label_prediction import LabelPrediction, build_predictions
from nearfield.jobs.classification.training import fit_validated
from nearfield.jobs.classification.validation import confidence_of
from nearfield.jobs.classification.zero_shot_texts import LabelsLike, classify_by_names
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, job_encoder, texts_in_space
from nearfield.jobs.libraries import library
from nearfield.jobs.sources.job_items import require_items
from nearfield.text_inputs import many_texts

#: Texts among which those to label are spread, for each one to label: the least sure.
_CANDIDATES = 10


def classify(
    texts: Sequence[str],
    labels: LabelsLike | None = None,
    *,
    examples: ExamplesLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    several: bool = False,
    templates: str | Sequence[str] | None = None,
    vectors: ArrayLike | None = None,
    accept_license: bool = False,
    progress: bool = False,
) -> list[LabelPrediction]:
    """Label texts by the names of labels, or by examples.

    Args:
        texts: what to label.
        labels: names of labels, or a mapping from names to descriptions, for a decision without examples. Scores are
            cosines, and a text is unsure whose two best labels are nearly equal.
        examples: a file or folder of labelled texts (see ``load_training_data``), or two lists: texts, and the labels
            of each. A linear head on the vectors gives calibrated probabilities, and a text is unsure below the
            probability from which on 95% of predictions were right in cross-validation. A classifier for later use
            is trained by ``train_classifier``.
        model: name, folder or encoder.
        several: a text of the examples may have any number of labels.
        templates: of ``labels``, sentences with ``{}`` for the label; the vectors of several are averaged.
        vectors: those of the texts, if there are any; labels and examples are read by the model, of the same space.
        accept_license: use a model whose licence does not allow commercial use.
        progress: show a bar.

    Returns:
        A prediction for each text: ``label``, ``score``, ``scores``, ``chosen``, ``unsure``.

    Raises:
        InputError: neither or both of labels and examples, or an argument is invalid.
        MissingExtra: scikit-learn is not installed, which examples need.
    """
    listed = many_texts(texts, "texts")
    if (labels is None) == (examples is None):
        raise InputError("Give either labels or examples: names to choose from, or labelled texts.", param="labels")
    read = None if examples is None else read_examples(examples, several=several).require_labels()
    with job_encoder(model, accept_license=accept_license, progress=progress) as encoder:
        if labels is not None:
            return classify_by_names(encoder, listed, labels, templates, vectors=vectors, progress=progress)
        assert read is not None
        head, validation = fit_validated(encoder, read, progress=progress)
        rows = texts_in_space(encoder, listed, vectors, "classification", progress=progress)
    probabilities = head.probabilities(rows)
    threshold = 0.0 if validation is None else validation.threshold
    unsure = confidence_of(probabilities, head.several) < threshold
    return build_predictions(head.labels, probabilities, unsure, several=head.several)


def apply_classifier(
    texts: Sequence[str], folder: str | Path, *, accept_license: bool = False
) -> list[LabelPrediction]:
    """Label texts by a classifier: a folder of ``train_classifier``, or any model that gives scores for labels.

    A prediction is unsure below the probability that the folder names.
    """
    threshold = read_threshold(Path(folder))
    with open_classifier(str(folder), accept_license=accept_license) as classifier:
        several = classifier.recipe.config.get("problem_type") == "multi_label_classification"
        predictions = classifier.predict(list(texts))
        labels = classifier.labels
    scores = np.array([[row.scores[label] for label in labels] for row in predictions], np.float32)
    return build_predictions(labels, scores, confidence_of(scores, several) < threshold, several=several)


def next_to_label(
    texts: Sequence[str],
    count: int = 20,
    *,
    examples: ExamplesLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    several: bool = False,
    vectors: ArrayLike | None = None,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> list[int]:
    """Return the numbers of the texts whose labels would teach a classifier most, the most useful first.

    They are among those of which a classifier of the examples is least sure, and unlike each other. Without examples
    they are typical of the whole: the nearest to the centres of clusters.

    Args:
        texts: texts without labels.
        count: how many to choose.
        examples, model, several, vectors, accept_license, progress: as for ``classify``.
        seed: of the clusters.

    Raises:
        InputError: there are fewer texts than ``count``, or an argument is invalid.
        MissingExtra: scikit-learn is not installed.
    """
    listed = many_texts(texts, "texts")
    require_items(listed, require_count("count", count), "A choice of texts to label")
    require_count("seed", seed, 0)
    read = None if examples is None else read_examples(examples, several=several).require_labels()
    with job_encoder(model, accept_license=accept_license, progress=progress) as encoder:
        rows = texts_in_space(encoder, listed, vectors, "classification", progress=progress)
        if read is None:
            return _spread(rows, np.zeros(len(rows)), count, seed)
        head, _ = fit_validated(encoder, read, progress=progress)
    return _spread(rows, confidence_of(head.probabilities(rows), head.several), count, seed)


def _spread(vectors: Array, confidence: Array, count: int, seed: int) -> list[int]:
    """Return one text of each of ``count`` clusters of the least sure texts: the least sure, or else the most central.

    Diversity is as in Zhdanov 2019 (arXiv:1901.05954): clusters among the candidates.
    """
    pool = np.argsort(confidence, kind="stable")[: _CANDIDATES * count] if confidence.any() else np.arange(len(vectors))
    clusters = library("sklearn.cluster").MiniBatchKMeans(count, n_init=3, random_state=seed).fit(vectors[pool])
    distances = clusters.transform(vectors[pool])[np.arange(len(pool)), clusters.labels_]
    order = np.lexsort((distances, confidence[pool]))
    first = np.unique(clusters.labels_[order], return_index=True)[1]
    chosen = order[np.sort(first)]
    rest = order[~np.isin(order, chosen)][: count - len(chosen)]  # of clusters that are empty: equal texts
    return [int(pool[place]) for place in (*chosen, *rest)]

"""`train_classifier`: a linear head on a model's vectors, measured, and written as a folder that every API serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearfield.argument_checks import require_count, require_number, require_path
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.whole_folder import require_new_folder
from nearfield.jobs.classification.classifier_folder import require_portable, write_classifier
from nearfield.jobs.classification.examples import ExamplesLike, LabelExamples, read_examples
from nearfield.jobs.classification.head_doubts import find_doubts
from nearfield.jobs.classification.linear_head import LinearHead, fit_head
from nearfield.jobs.classification.validation import (
    DEFAULT_STRENGTH,
    SURE_ACCURACY,
    HeadValidation,
    measure,
    validate_head,
)
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, encode_texts, job_encoder
from nearfield.message_text import count_of, escape_controls

#: Confused pairs in the text of a report.
_SHOWN_PAIRS = 8


@dataclass(frozen=True)
class ClassifierReport:
    """A head with its measure, and where it was written.

    ``figures`` are of cross-validation, and ``test`` of examples that had no part in it; None: not measured.
    ``warnings`` are reasons not to trust the head or its figures.
    """

    model: str
    head: LinearHead
    examples: int
    figures: JsonDict | None
    test: JsonDict | None = None
    folder: str | None = None
    warnings: Sequence[str] = ()

    def to_dict(self) -> JsonDict:
        """Return the report in a form for JSON."""
        return {
            "model": self.model,
            "labels": list(self.head.labels),
            "several": self.head.several,
            "examples": self.examples,
            "cross_validation": self.figures,
            "test": self.test,
            "folder": self.folder,
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """Return lines for a terminal."""
        head = f"{count_of(self.examples, 'example')} of {count_of(len(self.head.labels), 'label')}, by {self.model}"
        lines = [head]
        if self.figures is None:
            lines.append("not measured: each label needs two examples, of which one can be left out.")
        for name, figures in (("cross-validation", self.figures), ("test", self.test)):
            lines += [] if figures is None else _figure_lines(name, figures)
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(map(escape_controls, lines))


def train_classifier(
    examples: ExamplesLike,
    output: str | Path | None = None,
    *,
    model: JobModel = DEFAULT_MODEL,
    test: ExamplesLike | None = None,
    several: bool = False,
    sure: float = SURE_ACCURACY,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> ClassifierReport:
    """Fit a linear head on the vectors of a model, measure it, and write it as the folder of a classifier.

    The folder has the model's files and one more module. ``Classifier(folder)`` loads it, ``nearfield serve`` serves
    it, and sentence-transformers' ``CrossEncoder`` loads it too. It contains the model, and cannot be used with another
    one.

    Args:
        examples: as for ``classify``. A few of each label are enough to begin with.
        output: a new folder; None: nothing is written.
        model: name, folder or encoder.
        test: further examples to measure on.
        several: a text may have any number of labels; a file then has JSON lines with a list ``labels``.
        sure: the share of right labels that predictions have which are not called unsure, from 0.5 to 1.
        seed: of the parts of cross-validation.
        accept_license, progress: as for ``classify``.

    Raises:
        InputError: an argument is invalid, or there are fewer than two labels.
        ModelRefused: the model's files cannot hold a head.
        MissingExtra: scikit-learn is not installed.
    """
    require_number("sure", sure)
    if not 0.5 <= sure <= 1:
        raise InputError(f"sure must be from 0.5 to 1, and is {sure}.", param="sure")
    require_count("seed", seed, 0)
    read = read_examples(examples, several=several).require_labels()
    held_out = None if test is None else read_examples(test, several=several)
    folder = None if output is None else require_path("output", output)
    if folder is not None:
        require_new_folder(folder)
    with job_encoder(model, accept_license=accept_license, progress=progress) as encoder:
        if folder is not None:
            require_portable(encoder.recipe)
        head, validation = fit_validated(encoder, read, sure=sure, seed=seed, progress=progress)
        measured = None if held_out is None else _measure(encoder, head, held_out, progress=progress)
        figures = None if validation is None else validation.figures
        written = None if folder is None else str(folder)
        doubts = find_doubts(read, held_out, figures, measured)
        report = ClassifierReport(encoder.name, head, len(read.texts), figures, measured, written, doubts)
        if folder is not None:
            write_classifier(encoder, head, folder, report.to_dict(), read.texts)
    return report


def fit_validated(
    encoder: Encoder,
    examples: LabelExamples,
    *,
    sure: float = SURE_ACCURACY,
    seed: int = 1,
    progress: bool = False,
) -> tuple[LinearHead, HeadValidation | None]:
    """Return a calibrated head of examples, and what cross-validation shows of it."""
    vectors = encode_texts(encoder, examples.texts, "classification", progress=progress)
    validation = validate_head(vectors, examples.targets, examples.labels, examples.several, sure=sure, seed=seed)
    strength = DEFAULT_STRENGTH if validation is None else validation.strength
    head = fit_head(vectors, examples.targets, examples.labels, examples.several, strength)
    return (head if validation is None else head.tempered(validation.temperature)), validation


def _measure(encoder: Encoder, head: LinearHead, test: LabelExamples, *, progress: bool) -> JsonDict:
    unknown = sorted({*test.labels} - {*head.labels})
    if unknown:
        raise InputError(f"The test has the label {unknown[0]!r}, of which there is no example.", param="test")
    targets = np.zeros((len(test.texts), len(head.labels)), np.bool_)
    targets[:, [head.labels.index(label) for label in test.labels]] = test.targets
    probabilities = head.probabilities(encode_texts(encoder, test.texts, "classification", progress=progress))
    return measure(probabilities, targets, head.labels, head.several)


def _figure_lines(name: str, figures: JsonDict) -> Sequence[str]:
    low, high = figures["interval"]
    score = f"accuracy {figures['accuracy']:.1f} (95% {low:.1f} to {high:.1f}), macro F1 {figures['macro_f1']:.1f}"
    calibration = f"probabilities are off by {figures['calibration_error']:.1f} points"
    lines = [f"{name}: {score}, on {count_of(figures['examples'], 'text')}; {calibration}"]
    if "sure" in figures:
        lines.append(_sure_line(figures["sure"]))
    pairs = figures["confused"][:_SHOWN_PAIRS]
    return [*lines, *(f"  {pair['texts']:4} of {pair['label']} called {pair['predicted']}" for pair in pairs)]


def _sure_line(sure: JsonDict) -> str:
    right = f"{100 * sure['accuracy']:.0f}%"
    if not sure["share"]:
        return f"  sure: none; there is no probability from which on {right} of the texts are right"
    share = f"{100 * sure['share']:.0f}%"
    return f"  sure from a probability of {sure['threshold']:.2f} on: {share} of texts, {right} of them right"

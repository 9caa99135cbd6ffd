"""`LabelExamples`: texts with the labels that people gave them, one or several each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nearfield.argument_checks import require_flag
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled
from nearfield.evaluation.datasets.rows import read_rows
from nearfield.message_text import count_of
from nearfield.text_inputs import many_texts, one_or_many
from nearfield.training.data.loaders import load_training_data

#: A file or folder, or texts with their labels.
ExamplesLike: TypeAlias = "str | Path | tuple[Sequence[str], Sequence[str] | Sequence[Sequence[str]]] | LabelExamples"
#: Labels above which a linear head is the wrong tool: that is a search.
MAX_LABELS = 5_000


@dataclass(frozen=True)
class LabelExamples:
    """Texts, and the labels of each. With ``several``, a text has any number of labels; otherwise one.

    Raises:
        InputError: there are too many labels, or a text has not one label.
    """

    texts: Sequence[str]
    labels_of: Sequence[Sequence[str]]
    several: bool = False

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels_of):
            counts = f"{count_of(len(self.texts), 'text')} and labels of {len(self.labels_of):,}"
            raise InputError(f"The examples have {counts}: give one for each.", param="examples")
        many = next((n for n, labels in enumerate(self.labels_of) if len(labels) != 1), None)
        if many is not None and not self.several:
            raise InputError(
                f"Example {many} has {len(self.labels_of[many])} labels. For texts with several, say so: several=True, "
                "--several.",
                param="examples",
            )
        if any(not label.strip() for label in self.labels):
            raise InputError("A label of the examples is empty: give each text the name of one.", param="examples")
        if len(self.labels) > MAX_LABELS:
            raise InputError(
                f"The examples have {len(self.labels):,} labels, more than {MAX_LABELS:,}. Is that the right column? "
                "So many classes are a search: nearfield search.",
                param="examples",
            )

    def require_labels(self) -> LabelExamples:
        """Return the examples; raise InputError unless they have two labels, between which a head can decide."""
        if len(self.labels) < 2:
            only = f" with the label {self.labels[0]!r} alone" if self.labels else ""
            raise InputError(
                f"The examples are {count_of(len(self.texts), 'text')}{only}: at least two labels are needed.",
                param="examples",
            )
        return self

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, sorted."""
        return tuple(sorted({label for labels in self.labels_of for label in labels}))

    @cached_property
    def targets(self) -> Array:
        """Whether a text has a label, bool [texts, labels]."""
        places = {label: place for place, label in enumerate(self.labels)}
        targets = np.zeros((len(self.texts), len(self.labels)), np.bool_)
        for number, labels in enumerate(self.labels_of):
            targets[number, [places[label] for label in labels]] = True
        return targets


def read_examples(source: ExamplesLike, *, several: bool = False) -> LabelExamples:
    """Return examples from a file or folder of `load_training_data`, or from two lists in Python.

    With ``several``, a file has JSON lines with ``text`` and a list ``labels``.

    Raises:
        InputError: there are no such rows, or what ``LabelExamples`` raises.
    """
    require_flag("several", several)
    if isinstance(source, LabelExamples):
        return source
    if isinstance(source, tuple):
        return _from_lists(source, several)
    if several:
        rows = read_rows(Path(source))
        listed = [row.texts("labels") if row.values.get("labels") != [] else [] for row in rows]
        return LabelExamples([row.text("text") for row in rows], listed, True)
    labelled = load_training_data(source, shape="labels").rows
    assert isinstance(labelled, Labelled)
    return LabelExamples(labelled.texts, [(label,) for label in labelled.labels])


def _from_lists(source: tuple[Sequence[str], Sequence[str] | Sequence[Sequence[str]]], several: bool) -> LabelExamples:
    if len(source) != 2:
        raise InputError("examples must be a path, or two lists: texts, and the labels of each.", param="examples")
    texts, labels = source
    items = one_or_many(labels, "labels")
    listed = [(label,) if isinstance(label, str) else tuple(many_texts(label, "labels")) for label in items]
    return LabelExamples(many_texts(texts, "examples"), listed, several)

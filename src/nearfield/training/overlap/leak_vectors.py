"""Vectors of the texts of two sets, for the search for rows that both have (`LeakVectorSource`)."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.training.leaks import LeakVectors, leak_texts
from nearfield.training.overlap.normalised import normalise
from nearfield.training.training_data import TrainingData

#: Different texts up to which vectors are compared without a request: some seconds of a small model on two cores.
CHEAP_TEXTS = 4_000
#: Compares texts for models that have no dense vectors.
_OTHER_MODEL = "all-MiniLM-L6-v2"


class LeakVectorSource:
    """Encodes the texts of sets, each once; the model is loaded when it is first needed.

    Args:
        model: name or folder of a model.
        is_dense: whether it gives dense vectors; another model compares the texts if not.
        mode: True for all sets, False for none, ``auto`` for those with few texts, of a model with dense vectors.
    """

    def __init__(self, model: str, *, is_dense: bool, mode: Literal["auto"] | bool) -> None:
        self._model, self._mode = model if is_dense else _OTHER_MODEL, mode
        self._is_on = mode is True or (mode == "auto" and is_dense)
        self._stack = ExitStack()
        self._encoder: Encoder | None = None
        self._rows: dict[str, Array] = {}
        #: Sentences for people: which sets were not compared by vectors.
        self.notes: list[str] = []

    def __enter__(self) -> LeakVectorSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def vectors(self, train: TrainingData, other: TrainingData | Dataset) -> LeakVectors | None:
        """Return the vectors of the texts of ``leak_texts`` of both sets; None if they are not compared by vectors."""
        if not self._is_on:
            return None
        sides = [[normalise(text.text) for text in leak_texts(data)] for data in (train, other)]
        different = {*sides[0], *sides[1]}
        if self._mode == "auto" and len(different) > CHEAP_TEXTS:
            self.notes.append(
                f"{len(different):,} texts of {train.name} and {other.name} were not compared by vectors, which finds "
                "rewordings: --leak-vectors compares them."
            )
            return None
        self._encode(train, other)
        left, right = (np.stack([self._rows[text] for text in side]) for side in sides)
        return left, right

    def _encode(self, *sets: TrainingData | Dataset) -> None:
        texts = {normalise(text.text): text.text for data in sets for text in leak_texts(data)}
        new = {plain: text for plain, text in texts.items() if plain not in self._rows}
        if not new:
            return
        if self._encoder is None:
            self._encoder = self._stack.enter_context(Encoder(self._model, accept_license=True))
        rows = np.asarray(self._encoder.encode(list(new.values()), show_progress_bar=False), np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        self._rows.update(zip(new, rows, strict=True))

"""Teachers: models that score pairs of a query and a document, for the choice of negatives and for distillation.

The scores of both kinds are on one scale, that of a cross-encoder's logits: cosines are multiplied by 20, as the losses
multiply those of the model that is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights import digest, weights
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.inference.uncompiled_model import read_model
from nearfield.recipe import ClassScores, Recipe
from nearfield.reranker import Reranker
from nearfield.training.training_data import TrainingData

#: Cosines are multiplied by this: a temperature of 0.05.
COSINE_SCALE = 20.0
#: Logits beyond this have the same sigmoid.
_LARGEST_LOGIT = 30.0


class ModelTeacher:
    """Scores pairs with a cross-encoder, or with a model of dense vectors."""

    def __init__(self, model: Encoder | Reranker) -> None:
        self.model = model
        #: Vectors by text: a document is a candidate of many queries.
        self._documents: dict[str, Array] = {}

    def score(self, query: list[str], documents: list[str], /) -> Array:
        """Return a score of each pair, float64 [n]: logits, or cosines times 20; higher is better."""
        if isinstance(self.model, Reranker):
            return np.asarray(self.model.score(query, documents, activation="identity"), np.float64)
        return self._products(query, documents)

    def nearness(self, scores: Array) -> Array:
        """Return scores in the form in which a margin is a share of them: probabilities, or cosines times 20."""
        if isinstance(self.model, Reranker):
            return np.asarray(1 / (1 + np.exp(-np.clip(scores, -_LARGEST_LOGIT, _LARGEST_LOGIT))))
        return scores

    def _products(self, queries: Sequence[str], documents: Sequence[str]) -> Array:
        assert isinstance(self.model, Encoder)  # see check_teacher
        new = [text for text in dict.fromkeys(documents) if text not in self._documents]
        if new:
            rows = np.asarray(self.model.encode_document(new, show_progress_bar=False), np.float32)
            self._documents.update(zip(new, rows, strict=True))
        different = list(dict.fromkeys(queries))
        vectors = np.asarray(self.model.encode_query(different, show_progress_bar=False), np.float64)
        by_text = dict(zip(different, vectors, strict=True))
        pairs = zip(queries, documents, strict=True)
        scores = [float(by_text[query] @ self._documents[document]) for query, document in pairs]
        return np.array(scores) * (COSINE_SCALE if self.model.recipe.normalized else 1.0)


@contextmanager
def open_teacher(name: str, *, accept_license: bool = False) -> Iterator[ModelTeacher]:
    """Yield the teacher of a name; the model is closed at the end of the block.

    Raises:
        InputError: the model is neither a cross-encoder with one score nor one of dense vectors.
        ModelNotFound, SourceUnavailable, ModelRefused: as ``nearfield.load``.
    """
    recipe = read_model(name, accept_license=accept_license).recipe
    _require_kind(recipe)
    model_class = Reranker if recipe.outputs[0] == "scores" else Encoder
    with model_class(name, accept_license=accept_license) as model:
        yield ModelTeacher(model)


def check_teacher(name: str, *, accept_license: bool = False) -> str:
    """Return the SHA-256 of a teacher's weights; raise as ``open_teacher`` does."""
    recipe = read_model(name, accept_license=accept_license).recipe
    _require_kind(recipe)
    return digest.of_files(weights.files(recipe.folder))


def _require_kind(recipe: Recipe) -> None:
    kind, head = recipe.outputs[0], recipe.head("scores")
    if kind == "dense" or (kind == "scores" and not (isinstance(head, ClassScores) and len(head.labels) > 1)):
        return
    output = f"{len(head.labels)} scores" if isinstance(head, ClassScores) else f"{kind} vectors"
    raise InputError(
        f"A teacher is a cross-encoder with one score, or a model of dense vectors, and {recipe.name} gives {output}.",
        param="teacher",
    )


def require_teachable(data: TrainingData, negatives: int) -> None:
    """Check that a teacher has pairs to score.

    Raises:
        InputError: the data are no rankings or have scores of a teacher, or there are to be no negatives.
    """
    if not isinstance(data.rows, Retrieval):
        raise InputError(
            f"A teacher scores queries with documents, and {data.name} has {data.shape}: leave the teacher out.",
            param="teacher",
        )
    if data.teacher_scores:
        raise InputError(
            f"{data.name} has the scores of a teacher already, which are learnt from: leave the teacher out.",
            param="teacher",
        )
    if not negatives:
        raise InputError("A teacher scores negatives: name how many with --negatives, such as 3.", param="negatives")


def score_judged(data: TrainingData, teacher: ModelTeacher) -> dict[str, dict[str, float]]:
    """Return the teacher's scores of all judged documents of each query."""
    rows = data.rows
    assert isinstance(rows, Retrieval)  # see require_teachable
    scores: dict[str, dict[str, float]] = {}
    for query, grades in rows.relevant.items():
        texts = [rows.documents[key] for key in grades]
        values = teacher.score([rows.queries[query]] * len(texts), texts).tolist() if texts else []
        scores[query] = dict(zip(grades, values, strict=True))
    return scores

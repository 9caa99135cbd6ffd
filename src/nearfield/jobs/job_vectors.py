"""Vectors for jobs: the model of a job, its prompt for the job, and unit vectors of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from nearfield.arrays import Array
from nearfield.attach import open_encoder
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.recipe import Recipe
from nearfield.vectors.dense import Vectors, normalize
from nearfield.vectors.fingerprint import require_same_space

#: The model of a job that names none.
DEFAULT_MODEL = "all-MiniLM-L6-v2"
#: A name, a folder, or a model that is loaded.
JobModel: TypeAlias = "str | Encoder"
#: What a model may have a prompt or a task for.
Purpose: TypeAlias = Literal["classification", "clustering"]


@dataclass(frozen=True, eq=False)
class JobVectors:
    """Vectors of a job: ``rows``, float32 [n, dim] of unit length, and what is known of their space.

    ``model`` and ``fingerprint`` are empty for arrays of a caller, of which nothing is known.
    """

    rows: Array
    model: str = ""
    fingerprint: str = ""

    def require_same_space(self, other: JobVectors) -> None:
        """Check that vectors can be compared, as far as their spaces are known.

        Raises:
            SpaceMismatch: the spaces are different.
            InputError: the dimensions are.
        """
        if self.fingerprint and other.fingerprint:
            require_same_space(self.fingerprint, other.fingerprint)
        first, second = self.rows.shape[1], other.rows.shape[1]
        if first != second:
            raise InputError(f"Vectors of {first:,} and of {second:,} dimensions cannot be compared.", param="vectors")


@contextmanager
def job_encoder(model: JobModel, *, accept_license: bool = False, progress: bool = False) -> Iterator[Encoder]:
    """Yield the encoder that a caller names, and close it at the end; one that a caller passes stays open."""
    if isinstance(model, Encoder):
        yield model
        return
    with open_encoder(model, accept_license=accept_license, progress=progress) as encoder:
        yield encoder


def purpose_options(recipe: Recipe, purpose: Purpose) -> dict[str, Any]:
    """Return the keywords of ``Encoder.encode`` for a purpose: the model's task or prompt of that name, if it has one.

    Otherwise a model reads texts as it does without a role.
    """
    if purpose in recipe.tasks:
        return {"task": purpose}
    return {"prompt_name": purpose} if purpose in recipe.prompts else {}


def embed_texts(encoder: Encoder, texts: Sequence[str], purpose: Purpose, *, progress: bool = False) -> JobVectors:
    """Return the vectors of texts."""
    options = purpose_options(encoder.recipe, purpose)
    vectors = encoder.encode(list(texts), show_progress_bar=progress, **options)
    return JobVectors(unit_rows(vectors), encoder.name, vectors.fingerprint)


def encode_texts(encoder: Encoder, texts: Sequence[str], purpose: Purpose, *, progress: bool = False) -> Array:
    """Return vectors of unit length, float32 [n, dim]."""
    return embed_texts(encoder, texts, purpose, progress=progress).rows


def texts_in_space(
    encoder: Encoder, texts: Sequence[str], vectors: ArrayLike | None, purpose: Purpose, *, progress: bool = False
) -> Array:
    """Return the vectors of texts, float32 [n, dim]: those of a caller, of the model's space, or else the model's.

    Raises:
        SpaceMismatch: the vectors are of another space.
        InputError: they do not fit the texts or the model.
    """
    if vectors is None:
        return encode_texts(encoder, texts, purpose, progress=progress)
    checked = check_vectors(vectors, len(texts))
    checked.require_same_space(embed_texts(encoder, [], purpose))
    return checked.rows


def unit_rows(vectors: ArrayLike) -> Array:
    """Return vectors scaled to unit length, float32 [n, dim]; a vector of zeros stays one."""
    return normalize(np.asarray(vectors, np.float32))


def vectors_of(
    texts: Sequence[str],
    vectors: ArrayLike | None,
    model: JobModel,
    purpose: Purpose,
    *,
    accept_license: bool = False,
    progress: bool = False,
) -> JobVectors:
    """Return the vectors of texts: those that a caller passes, or else those of a model.

    Raises:
        InputError: the vectors are not one for each text, or not all are finite numbers.
    """
    if vectors is None:
        with job_encoder(model, accept_license=accept_license, progress=progress) as encoder:
            embedded = embed_texts(encoder, texts, purpose, progress=progress)
        return replace(embedded, model=model) if isinstance(model, str) else embedded
    return check_vectors(vectors, len(texts))


def check_vectors(vectors: ArrayLike, count: int) -> JobVectors:
    """Return vectors that a caller passes, one for each text, scaled to unit length.

    Those of ``Vectors`` are decoded, and their space is known.

    Raises:
        InputError: their number is another one, or not all are finite numbers.
    """
    if isinstance(vectors, Vectors):
        decoded = vectors.decode()
        return replace(check_vectors(decoded.data, count), fingerprint=decoded.fingerprint)
    rows = np.asarray(vectors)
    if rows.ndim != 2 or len(rows) != count:
        raise InputError(
            f"vectors has the shape {rows.shape}, and must be [{count:,}, dimensions]: one vector for each text.",
            param="vectors",
        )
    if rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise InputError("vectors must be finite floating-point numbers: decode quantised ones first.", param="vectors")
    return JobVectors(unit_rows(rows))

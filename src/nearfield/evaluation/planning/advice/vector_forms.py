"""Forms of stored vectors (dimensions and number type), what each keeps of the quality, and the best that fits."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from nearfield.catalog import CatalogEntry
from nearfield.evaluation.planning.index_size import index_size

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class VectorForm:
    """Dimensions and number type of stored vectors. They have ``share`` of the quality of whole float32 vectors.

    ``bytes`` is the memory of all vectors; None where it depends on the texts (sparse vectors). ``two_stage`` says that
    the share holds if whole vectors on disk order the candidates that these find.
    """

    dimensions: int
    dtype: str
    share: float
    bytes: int | None
    two_stage: bool = False


def best_form(entry: CatalogEntry, vectors: int, room: int | None, *, two_stage: bool = True) -> VectorForm:
    """Return the form that keeps most of the quality in ``room`` bytes (None: no limit); the smallest if none fits.

    ``two_stage`` says whether there is a search, whose second stage orders what coarse vectors find.
    """
    known = (form for form in _forms(entry, vectors) if two_stage or not form.two_stage)
    forms = sorted(known, key=lambda form: (-form.share, form.bytes))
    fitting = (form for form in forms if room is None or (form.bytes or 0) <= room)
    return next(fitting, min(forms, key=lambda form: form.bytes or 0))


def _forms(entry: CatalogEntry, vectors: int) -> Iterator[VectorForm]:
    """Yield the forms of a model's vectors. Only dense vectors may be shortened or coarser."""
    if entry.kind == "sparse":
        yield VectorForm(entry.dimensions, "float32", 1.0, None)
        return
    if entry.kind == "scores":
        yield VectorForm(1, "float32", 1.0, 0)
        return
    is_dense = entry.kind == "dense"
    for dimensions in {entry.dimensions, *entry.matryoshka} if is_dense else {entry.dimensions}:
        length_share = _length_share(dimensions / entry.dimensions)
        for row in losses()["dtype"] if is_dense else losses()["dtype"][:1]:
            if length_share and not (row["name"] == "binary" and dimensions % 8):
                share = round(length_share * row["share"], 4)
                size = index_size(vectors, dimensions, row["name"]).raw
                yield VectorForm(dimensions, row["name"], share, size, row.get("two_stage", False))


def _length_share(part: float) -> float | None:
    """Return what vectors with a part of their dimensions keep; None: not known, the loss is large."""
    return next((row["share"] for row in losses()["dimensions"] if part >= row["from"]), None)


@lru_cache(maxsize=1)
def losses() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the table of losses: rows of ``dtype`` and of ``dimensions``, each with its source."""
    return tomllib.loads((files(__package__) / "losses.toml").read_text(encoding="utf-8"))

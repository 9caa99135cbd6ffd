"""Late: chunks of one document embedded together, so that each knows what stands around it (arXiv:2409.04701)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.document import Span
from nearfield.corpus.features import EncodePass, Feature, ruler
from nearfield.errors import InputError


def encode(made: EncodePass, features: Sequence[Feature], chunks: Sequence[str]) -> list[tuple[list[Any], int, int]]:
    """Return for each chunk the vectors of all features, its tokens, and 0 that were cut off.

    Raises:
        InputError: a feature is not dense: late chunking pools dense vectors.
    """
    other = next((feature for feature in features if feature.kind != "dense"), None)
    if other is not None:
        raise InputError(f"Late chunking pools dense vectors, and feature {other.name!r} is {other.kind}.")
    encoder = features[0].encoder
    options = {name: value for name, value in made.wanted().items() if name != "outputs"}
    rows: list[tuple[list[Any], int, int]] = []
    for found in encoder.encode_late(_runs(features[0], chunks), role="document", **options):
        columns = [feature.shape(found.data) for feature in features]
        tokens = found.tokens if found.tokens is not None else [0] * len(found)
        for number in range(len(found)):
            rows.append(([column[number] for column in columns], int(tokens[number]), 0))
    return rows


def _runs(feature: Feature, chunks: Sequence[str]) -> list[tuple[str, ...]]:
    """Group consecutive chunks into runs that the model can read whole; a line parts each from the one before."""
    measure = ruler(feature)
    spans, at = [], 0
    for chunk in chunks:
        spans.append(Span(at, at + len(chunk), tokens=measure.count(chunk)))
        at += len(chunk) + 1
    return [run.texts for run in group_runs("\n".join(chunks), spans, measure)]

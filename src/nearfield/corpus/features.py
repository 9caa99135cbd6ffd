"""Feature: a model's output as a collection uses it: how documents and queries become vectors, and in which table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus import config
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import TableSpec
from nearfield.stores.filters import FieldType
from nearfield.vectors.dense import truncate
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

EncoderOf = Callable[[str], Encoder]


@dataclass(frozen=True)
class EncodePass:
    """What one forward pass gives: features of one model and the same options share it."""

    model: str
    options: str
    kinds: tuple[str, ...]

    def wanted(self) -> dict[str, Any]:
        """Return the keywords of ``Encoder.encode``."""
        return {"outputs": self.kinds, **json.loads(self.options)}


class Feature:
    """A feature of a collection, with the model that makes it."""

    def __init__(self, name: str, told: config.FeatureConfig, encoder: Encoder) -> None:
        self.name = name
        self.config = told
        self.encoder = encoder
        encoder.require(told.kind)
        # An empty list tells the space of its vectors, and refuses what the model cannot do.
        self._blank: Any = encoder.encode([], role="document", outputs=(told.kind,), **told.options)[told.kind]
        if told.kind == "dense":
            self._check_dimensions()

    def _check_dimensions(self) -> None:
        asked: dict[str, Any] = {"truncate_dim": self.config.dimensions, "force_truncate_dim": self.config.force}
        self.encoder.encode([], **{name: value for name, value in asked.items() if value})

    @property
    def kind(self) -> str:
        """dense, sparse or multivector."""
        return self.config.kind

    @property
    def width(self) -> int:
        """Numbers of a vector: dimensions, or the vocabulary's size."""
        if isinstance(self._blank, SparseVectors):
            return self._blank.size
        return self.config.dimensions or int(self._blank.dim)

    def space(self) -> dict[str, Any]:
        """Return what tells vectors that may be compared from others, and what made them."""
        prompts = {role: self._prompt(role) for role in ("query", "document")}
        return {
            "model": self.encoder.name,
            "fingerprint": self._blank.fingerprint,
            "dimensions": self.width,
            "dtype": self.config.dtype,
            "prompts": prompts,
            "options": self.config.options,
        }

    def _prompt(self, role: str) -> str:
        ids = self.encoder.tokenize([""], role=role, outputs=(self.kind,), **self.config.options)[0].ids
        return hashlib.sha256(str(ids).encode()).hexdigest()[:16]

    def table(self, name: str, fields: Mapping[str, FieldType]) -> TableSpec:
        """Return the table for its vectors."""
        told = self.config
        return TableSpec(
            name,
            told.kind,
            self.width,
            dtype=told.dtype,
            metric=self._metric(),
            fields=dict(fields),
            index=told.index,
            quantization=told.quantization,
        )

    def _metric(self) -> Any:
        if self.kind != "dense" or self.config.dtype == "binary":
            return "dot" if self.kind != "dense" else "cosine"
        similarity = self.encoder.recipe.similarity
        return similarity if similarity in ("cosine", "dot", "euclidean") else "cosine"

    def encode_queries(self, texts: Sequence[str]) -> list[Any]:
        """Encode queries, with the model's query prompt: vectors in the form of ``Record.vector``."""
        found = self.encoder.encode(
            list(texts), role="query", outputs=(self.kind,), show_progress_bar=False, **self.config.options
        )
        return self.vectors(found)

    def encode_documents(self, texts: Sequence[str]) -> list[Any]:
        """Encode texts as documents: vectors in the form of ``Record.vector``."""
        found = self.encoder.encode(
            list(texts), role="document", outputs=(self.kind,), show_progress_bar=False, **self.config.options
        )
        return self.vectors(found)

    def vectors(self, outputs: Outputs) -> list[Any]:
        """Take this feature's vectors out of a pass, cut and quantised, in the form of ``Record.vector``."""
        found = outputs[self.kind]
        if isinstance(found, SparseVectors):
            return [(np.asarray(ids, np.int64), np.asarray(values, np.float32)) for ids, values in found]
        if isinstance(found, MultiVectors):
            return [np.ascontiguousarray(rows) for rows in found]
        return list(self.shape(found.data))

    def shape(self, rows: Array) -> Array:
        """Cut and quantise whole dense vectors [n, dim]."""
        if self.width < rows.shape[1]:
            data = rows - rows.mean(1, keepdims=True) if self.encoder.recipe.centre else rows
            rows = truncate(data, self.width, renormalize=self.encoder.recipe.normalized)
        if self.config.dtype == "binary":
            return np.packbits(rows > 0, axis=1)
        return np.ascontiguousarray(rows, np.float32)

    @property
    def made_by(self) -> tuple[str, str]:
        """What tells passes apart: model and options."""
        return self.config.model, json.dumps(self.config.options, sort_keys=True)


@dataclass(frozen=True)
class FeatureTable:
    """A feature and the table that its vectors are in, or go into."""

    feature: Feature
    table: TableSpec


def build(definition: config.CollectionConfig, encoder_of: EncoderOf) -> dict[str, Feature]:
    """Load the models of a collection's features.

    Raises:
        InputError: a model gives no vectors of that kind, or a feature cannot be cut from another.
    """
    made: dict[str, Feature] = {}
    for name, told in definition.features.items():
        whole = definition.features[told.of] if told.of else told
        shaped = _like(told, whole) if told.of else told
        made[name] = Feature(name, shaped, encoder_of(whole.model))
        if told.of and made[name].width > made[told.of].width:
            raise InputError(
                f"Feature {name!r} wants {made[name].width} dimensions of {told.of!r}, which has {made[told.of].width}."
            )
    return made


def _like(told: config.FeatureConfig, whole: config.FeatureConfig) -> config.FeatureConfig:
    """Return a cut feature with model and options of the one it is cut from."""
    import msgspec

    dimensions = told.dimensions or whole.dimensions
    return msgspec.structs.replace(told, model=whole.model, options=whole.options, dimensions=dimensions)


def passes(features: Sequence[Feature]) -> list[tuple[EncodePass, list[Feature]]]:
    """Group features by the forward pass that makes them."""
    groups: dict[tuple[str, str], list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.made_by, []).append(feature)
    return [
        (EncodePass(model, options, tuple(dict.fromkeys(each.kind for each in group))), group)
        for (model, options), group in groups.items()
    ]


def ruler(first: Feature) -> TokenCounter:
    """Return what measures a collection's chunks: the first feature's tokenizer, beside its document prompt."""
    encoder = first.encoder
    empty = encoder.tokenize([""], role="document", outputs=(first.kind,), **first.config.options)[0].ids
    return TokenCounter(encoder.tokenizer, frame=len(empty))


def described(table: TableSpec) -> dict[str, Any]:
    """Return a table as JSON can say it."""
    return {**asdict(table), "fields": dict(table.fields)}


def table_of(told: Mapping[str, Any]) -> TableSpec:
    """Return the table that ``described`` told of."""
    return TableSpec(**told)


def require_same(name: str, collection: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to compare queries with vectors of another space.

    Raises:
        SpaceMismatch: saying what differs, and the command that makes the vectors anew.
    """
    names = {
        "model": "model",
        "fingerprint": "weights, tokenizer or pooling",
        "dimensions": "dimensions",
        "dtype": "quantisation",
        "prompts": "prompts",
        "options": "options",
    }
    differing = [told for key, told in names.items() if stored.get(key) != now.get(key)]
    if differing:
        raise SpaceMismatch(
            f"Feature {name!r} of collection {collection!r} was made with other {', '.join(differing)} "
            f"({stored.get('model')}, {stored.get('fingerprint')}) than queries would be ({now.get('model')}, "
            f"{now.get('fingerprint')}): their vectors mean nothing to each other. "
            f"Run: nearfield index {collection}"
        )

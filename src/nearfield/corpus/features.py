"""Features of a collection: models that turn documents and queries into vectors, and their vector tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from nearfield import catalog
from nearfield.arrays import Array
from nearfield.corpus.chunkers.token_counter import TokenCounter, WordCounter
from nearfield.corpus.config import CollectionConfig, FeatureConfig
from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.media.kinds import MEDIA_KINDS, NOUNS, modality_of
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SpaceMismatch, UnsupportedDimensions
from nearfield.hub import has_model
from nearfield.inference.preparation.unread_inputs import unread_unlogged
from nearfield.inference.uncompiled_model import read_model
from nearfield.stores import Kind, Metric, TableSpec
from nearfield.stores.filters import FieldType
from nearfield.vectors.dense import truncate
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors
from nearfield.vectors.vector_map import VectorMap, load_map, width_of

EncoderOf = Callable[[str], Encoder]
#: A vector in the form of ``Record.vector``: an array, or ids and weights.
Vector = Any
#: Metrics of stores by a model's similarity function; cosine for all others.
_METRICS: Mapping[str, Metric] = {"dot": "dot", "euclidean": "euclidean"}
#: Models that an error names.
_MAX_NAMED = 5
#: Stands for the number of parameters of a model that does not say it.
_LARGE = 10**12


@dataclass(frozen=True)
class EncodePass:
    """One forward pass, shared by the features with the same model and options. ``options`` is JSON."""

    model: str
    options: str
    kinds: tuple[str, ...]

    def encode_options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``Encoder.encode``."""
        return {"outputs": self.kinds, **json.loads(self.options)}


class Feature:
    """A feature of a collection, with its model."""

    def __init__(self, name: str, config: FeatureConfig, encoder: Encoder) -> None:
        self.name = name
        #: The kinds of chunks that get its vectors, and whether its model reads texts, and so queries.
        self.reads = config.media
        self.reads_texts = TEXT in encoder.modalities
        _require_modalities(name, self.reads, encoder.name, encoder.modalities)
        self.config = config = _with_all_dimensions(_with_form(config, encoder), encoder)
        self.encoder = encoder
        encoder.require(config.kind)
        # Encoding nothing returns the vector space, and raises errors about options that the model does not support.
        self._empty: Any = encoder.encode([], role="document", outputs=(config.kind,), **config.options)[config.kind]
        if config.kind == "dense":
            self._check_dimensions()
        self._query_map = load_map(config.query_map, "query") if config.query_map else None
        if self._query_map is not None:
            self._query_map.require_source(self._query_space, f"queries of feature {name!r}")

    def _check_dimensions(self) -> None:
        try:
            self.encoder.encode([], truncate_dim=self.config.dimensions, force_truncate_dim=self.config.force)
        except UnsupportedDimensions as error:
            message = f"Feature {self.name!r}: {error.describe('dimensions', 'force: true')}"
            raise InputError(message, param="features") from error

    @property
    def kind(self) -> str:
        """dense, sparse or multivector."""
        return str(self.config.kind)

    @property
    def reads_media(self) -> bool:
        """Whether it reads anything but text."""
        return self.reads != (TEXT,)

    @property
    def width(self) -> int:
        """The number of dimensions, or the size of the vocabulary."""
        if isinstance(self._empty, SparseVectors):
            return self._empty.size
        return self.config.dimensions or int(self._empty.dim)

    def space(self) -> dict[str, Any]:
        """Return the vector space: only vectors of equal spaces may be compared."""
        prompts = {role: self._prompt_digest(role) for role in ("query", "document") if self.reads_texts}
        reads = {"reads": list(self.reads)} if self.reads_media else {}
        return {
            **reads,
            "model": self.encoder.name,
            "fingerprint": self._empty.fingerprint,
            "dimensions": self.width,
            "dtype": self.config.dtype,
            "prompts": prompts,
            "options": self.config.options,
        }

    def _prompt_digest(self, role: str) -> str:
        ids = self.encoder.tokenize([""], role=role, outputs=(self.kind,), **self.config.options)[0].ids
        return hashlib.sha256(str(ids).encode()).hexdigest()[:16]

    def table(self, name: str, fields: Mapping[str, FieldType]) -> TableSpec:
        """Return the specification of a table for its vectors."""
        config = self.config
        return TableSpec(
            name,
            cast(Kind, config.kind),
            self.width,
            dtype=config.dtype,
            metric=self._metric(),
            fields=dict(fields),
            index=config.index,
            quantization=config.quantization,
        )

    def _metric(self) -> Metric:
        if self.kind != "dense":
            return "dot"
        if self.config.dtype == "binary":
            return "cosine"
        return _METRICS.get(self.encoder.recipe.similarity, "cosine")

    def encode_queries(self, texts: Sequence[str]) -> list[Vector]:
        """Encode queries with the model's query prompt, and move them by the query map if there is one."""
        outputs = self._encode(texts, "query")
        if self._query_map is None:
            return self.vectors(outputs)
        return list(self.shape(self._query_map.apply(outputs[self.kind].data)))

    def encode_media(self, items: Sequence[Any]) -> list[Vector]:
        """Encode queries that are no texts: pictures, sounds, videos, or content of several parts that it fuses."""
        return self.vectors(self._encode(items, "query"))

    def encode_documents(self, texts: Sequence[str]) -> list[Vector]:
        """Encode texts with the model's document prompt."""
        return self.vectors(self._encode(texts, "document"))

    def encode_through(self, bridge: VectorMap, texts: Sequence[str], role: str, *, binary: bool) -> list[Vector]:
        """Encode texts of a role, and return their vectors in the space of a bridge's target."""
        rows = bridge.apply(self._encode(texts, role)[self.kind].data)
        return list(np.packbits(rows > 0, axis=1) if binary else rows)

    def bridge_to(self, stored: Mapping[str, Any]) -> VectorMap | None:
        """Return the bridge into the stored space of another model; None if there is none, or it is not needed.

        Raises:
            InputError: the bridge cannot be read.
            SpaceMismatch: it leads from another model, or into another space.
        """
        if not self.config.bridge or not differences(stored, self.space()):
            return None
        bridge = load_map(self.config.bridge, "bridge")
        bridge.require_source(self._query_space, f"queries of feature {self.name!r}")
        whole: tuple[str, int, Mapping[str, Any]] = (bridge.target, width_of(bridge.target), {})
        if (stored.get("fingerprint"), stored.get("dimensions"), stored.get("options") or {}) != whole:
            raise SpaceMismatch(
                f"The bridge of feature {self.name!r} leads to whole vectors of the space {bridge.target}, and those "
                f"of the collection are of {stored.get('fingerprint')}, with {stored.get('dimensions')} dimensions. "
                "Fit a bridge from the model that they were computed with, or leave it out."
            )
        return bridge

    @cached_property
    def _query_space(self) -> str:
        return str(self._encode([], "query")[self.kind].fingerprint)

    def _encode(self, texts: Sequence[Any], role: str) -> Outputs:
        options = {"outputs": (self.kind,), "show_progress_bar": False, **self.config.options}
        with unread_unlogged():  # reports and searches warn, once for each script
            outputs: Outputs = self.encoder.encode(list(texts), role=role, **options)
            return outputs

    def vectors(self, outputs: Outputs) -> list[Vector]:
        """Return this feature's vectors from a pass's outputs, truncated and quantised."""
        output = outputs[self.kind]
        if isinstance(output, SparseVectors):
            return [(np.asarray(ids, np.int64), np.asarray(values, np.float32)) for ids, values in output]
        if isinstance(output, MultiVectors):
            return [np.ascontiguousarray(rows) for rows in output]
        return list(self.shape(output.data))

    def shape(self, rows: Array) -> Array:
        """Truncate and quantise full dense vectors [n, dimensions]."""
        if self.width < rows.shape[1]:
            data = rows - rows.mean(1, keepdims=True) if self.encoder.recipe.centre else rows
            rows = truncate(data, self.width, renormalize=self.encoder.recipe.normalized)
        if self.config.dtype == "binary":
            return np.packbits(rows > 0, axis=1)
        return np.ascontiguousarray(rows, np.float32)

    @property
    def pass_key(self) -> tuple[str, str, tuple[str, ...]]:
        """Model, options and what it reads: features with equal keys share a forward pass."""
        return self.config.model, json.dumps(self.config.options, sort_keys=True), self.reads


@dataclass(frozen=True)
class FeatureTable:
    """A feature and the table of its vectors."""

    feature: Feature
    table: TableSpec


def build_features(config: CollectionConfig, encoder_of: EncoderOf) -> dict[str, Feature]:
    """Load the models of a collection's features.

    Raises:
        InputError: a model has no output of that kind, or a feature cannot be derived from another.
    """
    result: dict[str, Feature] = {}
    for name, feature in config.features.items():
        full = config.features[feature.of] if feature.of else feature
        resolved = _with_model_of(feature, full) if feature.of else feature
        result[name] = Feature(name, resolved, encoder_of(full.model))
        if feature.of and result[name].width > result[feature.of].width:
            raise InputError(
                f"Feature {name!r} has {result[name].width} dimensions, more than the {result[feature.of].width} of "
                f"{feature.of!r}, which it is derived from."
            )
    return result


def _require_modalities(name: str, reads: Sequence[str], model: str, modalities: Sequence[str]) -> None:
    """Refuse a model that cannot read the kinds of chunks of its feature; the message names models that can.

    Raises:
        InputError: see above.
    """
    unread = next((kind for kind in reads if modality_of(kind) not in modalities), None)
    if unread is None:
        return
    known = [NOUNS[modality] for modality in modalities if modality in NOUNS]
    entries = [entry for entry in catalog.entries() if {modality_of(unread), TEXT} <= set(entry.reads)]
    entries.sort(key=lambda entry: (-(entry.parameters or _LARGE), entry.id))
    able = list({entry.family: entry.id for entry in entries}.values())[::-1]  # the smallest of each family, by size
    more = f" Models of the catalogue that read them: {', '.join(able[:_MAX_NAMED])}." if able else ""
    raise InputError(
        f"Feature {name!r} reads {NOUNS[unread]}, and {model} reads {' and '.join(known)} alone.{more}",
        param="features",
    )


def check_models(config: CollectionConfig) -> None:
    """Refuse models that cannot read the media that their features read: those of the catalogue, and in folders.

    None of them is loaded. Other models are checked when they are.

    Raises:
        InputError: a model cannot; the message names models that can.
    """
    for name, feature in config.features.items():
        if feature.of or feature.media == (TEXT,):
            continue
        entry = catalog.find_unless_folder(feature.model)
        if entry is not None:
            _require_modalities(name, feature.media, entry.id, entry.reads)
        elif has_model(feature.model):
            recipe = read_model(feature.model).recipe
            _require_modalities(name, feature.media, feature.model, recipe.reads)


def _with_form(config: FeatureConfig, encoder: Encoder) -> FeatureConfig:
    """Return a feature whose kind says the form of its vectors: dense ones, if the model gives them."""
    if config.kind not in MEDIA_KINDS:
        return config
    import msgspec

    form = "dense" if "dense" in encoder.recipe.outputs else encoder.recipe.outputs[0]
    return msgspec.structs.replace(config, kind=cast(Kind, form), reads=config.media)


def _with_all_dimensions(config: FeatureConfig, encoder: Encoder) -> FeatureConfig:
    """Return a feature that encodes all dimensions if it has more than the model's folder truncates to."""
    if config.kind != "dense" or (config.dimensions or 0) <= encoder.default_dimensions:
        return config
    import msgspec

    return msgspec.structs.replace(config, options={**config.options, "truncate_dim": encoder.dimensions})


def _with_model_of(feature: FeatureConfig, full: FeatureConfig) -> FeatureConfig:
    """Return a derived feature with the model and options of the full one."""
    import msgspec

    dimensions = feature.dimensions or full.dimensions
    shared = {"model": full.model, "options": full.options, "query_map": full.query_map, "reads": full.media}
    return msgspec.structs.replace(feature, dimensions=dimensions, **shared)


def group_passes(features: Sequence[Feature]) -> list[tuple[EncodePass, list[Feature]]]:
    """Group features by forward pass."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.pass_key, []).append(feature)
    return [
        (EncodePass(model, options, tuple(dict.fromkeys(feature.kind for feature in group))), group)
        for (model, options, _), group in groups.items()
    ]


def measuring_feature(features: Mapping[str, Feature]) -> Feature:
    """Return the feature by whose tokens texts are measured: the first one that reads texts, if there is one."""
    readers = (feature for feature in features.values() if TEXT in feature.reads)
    return next(readers, None) or next(iter(features.values()))


def token_counter(feature: Feature) -> TokenCounter:
    """Return a counter of a feature's tokens; the tokens of its document prompt are left free.

    Texts that no feature reads are measured in words: they are searched by keywords alone.
    """
    encoder = feature.encoder
    if TEXT not in feature.reads:
        return WordCounter()
    empty = encoder.tokenize([""], role="document", outputs=(feature.kind,), **feature.config.options)[0].ids
    return TokenCounter(encoder.tokenizer, frame=len(empty))


def table_to_dict(table: TableSpec) -> dict[str, object]:
    """Return a table's specification as JSON data."""
    return {**asdict(table), "fields": dict(table.fields)}


def table_from_dict(data: Mapping[str, Any]) -> TableSpec:
    """Return the table's specification that ``table_to_dict`` wrote."""
    return TableSpec(**data)


def differences(stored: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Return in what two spaces (``Feature.space``) differ."""
    labels = {
        "model": "model",
        "fingerprint": "weights, tokenizer or pooling",
        "dimensions": "dimensions",
        "dtype": "quantisation",
        "prompts": "prompts",
        "options": "options",
    }
    return [label for key, label in labels.items() if stored.get(key) != current.get(key)]


def require_same_space(name: str, collection: str, stored: Mapping[str, object], current: Mapping[str, object]) -> None:
    """Refuse to compare queries with stored vectors of another space.

    Raises:
        SpaceMismatch: what differs, and the command that computes the vectors again.
    """
    differing = differences(stored, current)
    if differing:
        raise SpaceMismatch(
            f"The vectors of feature {name!r} in collection {collection!r} cannot be compared with queries. They "
            f"differ in: {', '.join(differing)}. Stored: {stored.get('model')}, {stored.get('fingerprint')}. Queries: "
            f"{current.get('model')}, {current.get('fingerprint')}. To compute the vectors again: "
            f"nearfield index {collection}"
        )


def bridge_note(bridge: VectorMap, new: str, old: str) -> str:
    """Return what a search through a bridge loses, in a sentence."""
    loss = bridge.facts.get("loss")
    lost = ""
    if loss:
        low, high = loss["interval"]
        lost = f", which loses {loss['score']:.1f} points of {loss['measure']} (95% {low:.1f} to {high:.1f})"
    return f"Queries of {new} search the vectors of {old} through a bridge{lost}, until all are embedded again."

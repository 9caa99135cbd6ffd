"""The definition of a collection: features, store, chunking, cleaning, fields and sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nearfield.argument_checks import require_mapping, require_once
from nearfield.corpus.chunkers import REGISTRY as CHUNKERS
from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.feature_extractors import KEY as EXTRACTORS_KEY
from nearfield.corpus.extractors.feature_extractors import expand_extractors
from nearfield.corpus.extractors.media.kinds import MEDIA_FIELDS, MEDIA_KINDS, TIME_FIELDS, MediaKind, Medium
from nearfield.corpus.extractors.media.settings import MediaScope, SegmentSettings
from nearfield.corpus.extractors.options import OcrMode, SpeechMode
from nearfield.errors import InputError, MissingExtra, nearest
from nearfield.stores import Dtype, Kind, Quantization
from nearfield.stores.filters import FieldType
from nearfield.strict_json import parse_json
from nearfield.strict_toml import parse_toml
from nearfield.validation_message import describe_validation

_NAME_FORM = "a lower-case letter, then up to 31 lower-case letters, digits, - and _"
_FIELD_NAME_FORM = "a letter or _, then up to 47 letters, digits and _"
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description=_NAME_FORM)]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,47}$", description=_FIELD_NAME_FORM)]
DEFAULT_MODEL = "all-MiniLM-L6-v2"
#: Fields that every collection has. Filters may use them.
OWN_FIELDS: Mapping[str, FieldType] = {"source": "str", "path": "str", "type": "str", "page": "int"}


class FeatureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One vector of every chunk of the kinds that it reads.

    ``reads`` are the kinds of its chunks: text, image, page (of PDF files, as pictures), audio, video. One of them but
    text as ``kind`` is short for a feature that reads it, with vectors in the form that the model gives.
    ``of`` names another dense feature: this one is derived from its vectors by truncation or quantisation, without a
    forward pass. ``options`` are keyword arguments of ``Encoder.encode`` for documents and queries, such as an
    instruction. ``query_map`` and ``bridge`` are folders of maps for queries: the first belongs to the model, and the
    second serves searches in vectors of an earlier model until those of this one are complete.
    """

    model: str = DEFAULT_MODEL
    kind: Kind | MediaKind = "dense"
    reads: tuple[Medium, ...] = (TEXT,)
    dimensions: int | None = None
    force: bool = False
    dtype: Dtype = "float32"
    of: str | None = None
    index: Literal["auto", "none"] = "auto"
    quantization: Quantization = "none"
    options: dict[str, Any] = {}
    query_map: str = ""
    bridge: str = ""

    @property
    def media(self) -> tuple[str, ...]:
        """What it reads, whichever way the definition says so."""
        return (self.kind,) if self.kind in MEDIA_KINDS else self.reads

    @property
    def may_be_dense(self) -> bool:
        """Whether its vectors are dense, or as the model gives them."""
        return self.kind == "dense" or self.kind in MEDIA_KINDS


class ChunkingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How documents are split into chunks.

    ``by`` names a chunker. ``auto`` splits code by its syntax and all else with ``chunkers.DEFAULT``. ``tokens`` and
    ``overlap`` are counted with the tokenizer of the first feature. ``context`` puts title and headings before the text
    that is embedded.
    """

    by: str = "auto"
    tokens: Annotated[int, msgspec.Meta(ge=8)] | None = None
    overlap: Annotated[int, msgspec.Meta(ge=0)] | None = None
    context: bool = True


class CleaningConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is removed: boilerplate (lines repeated in many documents or pages), near-duplicate chunks, and copies.

    ``copies`` is the cosine from which on pictures and parts of videos that look the same are stored once [never].
    """

    boilerplate: bool = True
    duplicates: bool = True
    copies: Annotated[float, msgspec.Meta(ge=0.9, le=1)] | None = None


class SourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A source: kind, location and options."""

    kind: str
    location: str
    options: dict[str, Any] = {}


class CollectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The definition of a collection.

    ``language`` is that of its texts, for sentences and keywords. ``ocr`` reads the text of pictures and of scanned
    pages: true, or "damaged" for pages too with text that looks damaged. ``speech`` reads what is said in sounds and
    videos: true, or a model (a name, an id on the Hub, or a folder). ``segments`` cuts sounds and videos.
    """

    features: dict[Name, FeatureConfig] = msgspec.field(default_factory=lambda: {"dense": FeatureConfig()})
    store: str = ""
    chunks: ChunkingConfig = ChunkingConfig()
    clean: CleaningConfig = CleaningConfig()
    fields: dict[FieldName, FieldType] = {}
    sources: tuple[SourceSpec, ...] = ()
    language: str = "en"
    ocr: OcrMode = False
    segments: SegmentSettings = SegmentSettings()
    speech: SpeechMode = False
    accept_license: bool = False

    @property
    def all_fields(self) -> dict[str, FieldType]:
        """The fields that filters may use, besides those of every record."""
        media = MEDIA_FIELDS if self.media_kinds else TIME_FIELDS if self.speech else {}
        return {**OWN_FIELDS, **media, **self.fields}

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """The kinds of chunks of media that its features read."""
        read = {kind for feature in self.features.values() for kind in feature.media}
        return tuple(kind for kind in MEDIA_KINDS if kind in read)

    @property
    def reading(self) -> MediaScope:
        """What it reads of media files."""
        return MediaScope(self.media_kinds, self.segments)

    @property
    def first(self) -> FeatureConfig:
        """The feature whose tokenizer measures the chunks."""
        return next(iter(self.features.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON data, without defaults."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    def chunking_digest(self) -> str:
        """Return a digest of all settings that change chunks; all features share the chunks."""
        parts = [self.chunks, self.clean, sorted(self.fields.items()), self.language]
        return hashlib.sha256(json.dumps(msgspec.to_builtins(parts), sort_keys=True).encode()).hexdigest()[:16]


def parse_config(data: Mapping[str, object]) -> CollectionConfig:
    """Parse and check a definition; ``feature_extractors`` stand for features.

    Raises:
        InputError: a name or value is unknown, or features do not fit together.
    """
    require_mapping("config", data)
    try:
        config = msgspec.convert(expand_extractors(data), CollectionConfig, strict=True)
    except msgspec.ValidationError as error:
        reason = describe_validation(error, CollectionConfig)
        raise InputError(f"The collection's definition: {reason}", param="config") from error
    _check(config)
    return config


def combine_config(
    config: CollectionConfig | Mapping[str, Any] | None, extractors: Sequence[object] | None
) -> CollectionConfig:
    """Return a definition with features from ``feature_extractors``, if there are any. Raises as ``parse_config``."""
    if extractors is None:
        return config if isinstance(config, CollectionConfig) else parse_config(config or {})
    parts = config.to_dict() if isinstance(config, CollectionConfig) else config or {}
    require_mapping("config", parts)
    return parse_config({**parts, EXTRACTORS_KEY: extractors})


def load_config(path: Path) -> dict[str, Any]:
    """Read a definition from a TOML, YAML or JSON file, and return the parts that the file has.

    Raises:
        InputError: the file cannot be read, or its definition is wrong.
    """
    try:
        parts = expand_extractors(_parse_file(path))
        parse_config(parts)
        return parts
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.", param="config") from error
    except InputError as error:
        raise InputError(f"{path}: {error}", param="config") from error


def _parse_file(path: Path) -> Mapping[str, object]:
    suffix = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".json":
            data = parse_json(text)
        elif suffix == ".toml":
            data = parse_toml(text)
        elif suffix in (".yaml", ".yml"):
            data = _parse_yaml(text)
        else:
            raise InputError(f"a definition is a .toml, .yaml or .json file, not {suffix or 'one without a suffix'}.")
    except ValueError as error:  # of each of the three parsers, of the encoding, and ours
        raise error if isinstance(error, InputError) else InputError(f"{error}.") from error
    if not isinstance(data, Mapping):
        raise InputError("the file has no mapping of names to values at the top level.")
    return data


def _parse_yaml(text: str) -> object:
    try:
        from nearfield.strict_yaml import parse_yaml
    except ModuleNotFoundError as error:
        raise MissingExtra("YAML files need pyyaml: pip install 'nearfield[corpus]'") from error
    return parse_yaml(text)


def _check(config: CollectionConfig) -> None:
    require_once("sources", (f"{source.kind}:{source.location}" for source in config.sources))
    if not config.features:
        raise InputError("A collection has at least one feature: leave 'features' out for a dense one.")
    media = MEDIA_FIELDS if config.media_kinds else {}
    own = {*OWN_FIELDS, *media, "id", "document", "version", "ordinal", "and", "or", "not"}
    reserved = next((name for name in config.fields if name in own), None)
    if reserved is not None:
        raise InputError(f"The field {reserved!r} is built in: remove it from 'fields', or choose another name.")
    if config.chunks.by != "auto" and config.chunks.by not in CHUNKERS.names():
        raise InputError(f"Unknown chunker {config.chunks.by!r}. {nearest(config.chunks.by, CHUNKERS.names())}")
    if config.first.of is not None:
        raise InputError(
            "The first feature must have a model: a feature with 'of' comes after the one it is derived from."
        )
    if config.clean.copies is not None and not {"image", "video"} & set(config.media_kinds):
        raise InputError("clean.copies is for collections with a feature that reads pictures or videos.")
    if isinstance(config.speech, str) and not config.speech.strip():
        raise InputError("speech: true, false, or the name of a model, not an empty text.", param="speech")
    for name, feature in config.features.items():
        _check_feature(name, feature, config.features)


def _check_feature(name: str, feature: FeatureConfig, others: Mapping[str, FeatureConfig]) -> None:
    where = f"Feature {name!r}"
    _check_reads(where, feature)
    if not feature.may_be_dense and (feature.dimensions or feature.dtype == "binary" or feature.of):
        raise InputError(f"{where}: dimensions, binary and 'of' are for dense vectors, not {feature.kind}.")
    if (feature.query_map or feature.bridge) and (not feature.may_be_dense or feature.of):
        raise InputError(f"{where}: query_map and bridge are for dense features with a model.")
    if feature.of is None:
        return
    full = others.get(feature.of)
    if full is None or not full.may_be_dense or full.of is not None or full.dtype == "binary":
        dense = [key for key, other in others.items() if other.may_be_dense and other.of is None]
        raise InputError(
            f"{where} is derived from {feature.of!r}, which is not a full dense feature. {nearest(feature.of, dense)}"
        )
    if feature.dimensions is None and feature.dtype == "float32":
        raise InputError(f"{where} is the same as {feature.of!r}: set dimensions, or dtype to binary or float16.")


def _check_reads(where: str, feature: FeatureConfig) -> None:
    reads = feature.reads
    if not reads or len(set(reads)) < len(reads):
        raise InputError(f"{where}: reads names each kind once, and at least one: text, {', '.join(MEDIA_KINDS)}.")
    if reads != (TEXT,) and feature.kind in MEDIA_KINDS and reads != (feature.kind,):
        raise InputError(f"{where}: kind {feature.kind!r} says what it reads: leave 'reads' out.")
    if feature.of is not None and feature.media != (TEXT,):
        raise InputError(f"{where} reads what {feature.of!r} reads: leave 'reads' and the kind out.")
    if feature.bridge and feature.media != (TEXT,):
        raise InputError(f"{where}: a bridge is for features that read text alone.")


def merge_config(config: CollectionConfig, changes: Mapping[str, Any]) -> CollectionConfig:
    """Return a definition with parts replaced; sources are added to the existing ones.

    Raises:
        InputError: as for ``parse_config``.
    """
    base, changes = config.to_dict(), expand_extractors(changes)
    sources: Sequence[Any] = [*base.get("sources", ()), *changes.get("sources", ())]
    unique = {json.dumps([source["kind"], source["location"]]): source for source in sources}
    return parse_config({**base, **changes, "sources": list(unique.values())})


def parse_features(specs: Sequence[str]) -> dict[str, dict[str, object]]:
    """Parse features of the command line: ``NAME=MODEL``, ``NAME=MODEL:sparse``, ``NAME=FEATURE:256``.

    ``:multivector``, ``:binary``, ``:float16`` and kinds of media, such as ``:image``, are written in the same way.

    Raises:
        InputError: one of them has no such form.
    """
    require_once("feature", (spec.partition("=")[0] for spec in specs))
    features: dict[str, dict[str, object]] = {}
    for spec in specs:
        name, mark, value = spec.partition("=")
        if not mark or not value:
            raise InputError(f"A feature is NAME=MODEL, such as dense=bge-m3, not {spec!r}.", param="feature")
        model, _, form = value.rpartition(":") if ":" in value else (value, "", "")
        if form in ("sparse", "multivector", "dense", *MEDIA_KINDS):
            features[name] = {"model": model, "kind": form}
        elif form in ("binary", "float16"):
            features[name] = {**_model_or_feature(model, features), "dtype": form}
        elif form.isdigit():
            features[name] = {**_model_or_feature(model, features), "dimensions": int(form), "force": True}
        else:
            features[name] = {"model": value}
    return features


def _model_or_feature(name: str, features: Mapping[str, object]) -> dict[str, object]:
    return {"of": name} if name in features else {"model": name}


def parse_fields(specs: Sequence[str]) -> dict[str, str]:
    """Parse fields of the command line: ``year:int``, or ``lang`` for a text.

    Raises:
        InputError: a field is there twice.
    """
    require_once("field", (spec.partition(":")[0] for spec in specs))
    return {name: kind or "str" for name, _, kind in (spec.partition(":") for spec in specs)}

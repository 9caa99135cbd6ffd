"""Config: what a collection is to be: its features, store, chunks, cleaning, fields and sources, as data."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from nearfield.corpus.chunkers import REGISTRY as CHUNKERS
from nearfield.errors import InputError, MissingExtra, nearest
from nearfield.stores import Dtype, Kind, Quantization
from nearfield.stores.filters import FieldType

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,47}$")]
DEFAULT_MODEL = "all-MiniLM-L6-v2"
#: Fields that each collection has, and filters may use.
OWN_FIELDS: Mapping[str, FieldType] = {"source": "str", "path": "str", "type": "str", "page": "int"}


class FeatureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of vector that each chunk has.

    ``of`` names another dense feature, of whose vectors this one is a cut or quantised form: it costs no pass.
    ``options`` are keywords of ``Encoder.encode`` that hold for documents and queries alike, such as an instruction.
    """

    model: str = DEFAULT_MODEL
    kind: Kind = "dense"
    dimensions: int | None = None
    force: bool = False
    dtype: Dtype = "float32"
    of: str | None = None
    index: Literal["auto", "none"] = "auto"
    quantization: Quantization = "none"
    options: dict[str, Any] = {}


class ChunkingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How documents are cut. ``by`` auto goes by their form: code by its syntax, the rest as ``DEFAULT`` says.

    ``tokens`` and ``overlap`` are in tokens of the first feature's model. ``context`` puts title and headings before a
    chunk's text where it is embedded.
    """

    by: str = "auto"
    tokens: Annotated[int, msgspec.Meta(ge=8)] | None = None
    overlap: Annotated[int, msgspec.Meta(ge=0)] | None = None
    context: bool = True


class CleaningConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is left out: lines that repeat over documents or pages, and chunks that nearly repeat others."""

    boilerplate: bool = True
    duplicates: bool = True


class SourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A source by its kind and location, and its own options."""

    kind: str
    location: str
    options: dict[str, Any] = {}


class CollectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A collection's definition. ``language`` is that of its texts, for sentences and keywords."""

    features: dict[Name, FeatureConfig] = msgspec.field(default_factory=lambda: {"dense": FeatureConfig()})
    store: str = ""
    chunks: ChunkingConfig = ChunkingConfig()
    clean: CleaningConfig = CleaningConfig()
    fields: dict[FieldName, FieldType] = {}
    sources: tuple[SourceSpec, ...] = ()
    language: str = "en"
    accept_license: bool = False

    @property
    def all_fields(self) -> dict[str, FieldType]:
        """What may be filtered by, beside what each record has."""
        return {**OWN_FIELDS, **self.fields}

    @property
    def first(self) -> FeatureConfig:
        """The feature whose model measures the chunks."""
        return next(iter(self.features.values()))

    def told(self) -> dict[str, Any]:
        """Return it as JSON can say it, defaults left out."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def cutting(self) -> str:
        """Return what tells this way of cutting from another; features of one collection share it."""
        parts = [self.chunks, self.clean, sorted(self.fields.items()), self.language]
        return hashlib.sha256(json.dumps(msgspec.to_builtins(parts), sort_keys=True).encode()).hexdigest()[:16]


def read(told: Mapping[str, Any]) -> CollectionConfig:
    """Check a definition given as data.

    Raises:
        InputError: a name or value is unknown, or features do not fit together.
    """
    try:
        config = msgspec.convert(dict(told), CollectionConfig, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(f"The collection's definition: {error}.", param="config") from error
    _check(config)
    return config


def load(path: Path) -> CollectionConfig:
    """Read a definition from a TOML, YAML or JSON file.

    Raises:
        InputError: it cannot be read, or says what none of its kind can.
    """
    try:
        return read(_parse(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.", param="config") from error
    except InputError as error:
        raise InputError(f"{path}: {error}", param="config") from error


def _parse(path: Path) -> Mapping[str, Any]:
    text, suffix = path.read_text(encoding="utf-8"), path.suffix.lower()
    try:
        if suffix == ".json":
            found = json.loads(text)
        elif suffix == ".toml":
            found = tomllib.loads(text)
        elif suffix in (".yaml", ".yml"):
            found = _yaml(text)
        else:
            raise InputError(f"a definition is a .toml, .yaml or .json file, not {suffix or 'one without suffix'}.")
    except ValueError as error:  # of each of the three, and ours
        raise error if isinstance(error, InputError) else InputError(f"{error}.") from error
    if not isinstance(found, Mapping):
        raise InputError("holds no names and values.")
    return found


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtra("YAML files need pyyaml: pip install 'nearfield[corpus]'") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{error}.") from error


def _check(config: CollectionConfig) -> None:
    if not config.features:
        raise InputError("A collection has at least one feature: leave 'features' out for a dense one.")
    own = {*OWN_FIELDS, "id", "document", "version", "ordinal", "and", "or", "not"}
    taken = next((name for name in config.fields if name in own), None)
    if taken is not None:
        raise InputError(f"The field {taken!r} is there by itself: leave it out of 'fields', or name yours otherwise.")
    if config.chunks.by != "auto" and config.chunks.by not in CHUNKERS.names():
        raise InputError(f"Unknown chunker {config.chunks.by!r}. {nearest(config.chunks.by, CHUNKERS.names())}")
    if config.first.of is not None:
        raise InputError("The first feature is made by a model; put the one that is cut from another after it.")
    for name, feature in config.features.items():
        _check_feature(name, feature, config.features)


def _check_feature(name: str, feature: FeatureConfig, others: Mapping[str, FeatureConfig]) -> None:
    where = f"Feature {name!r}"
    if feature.kind != "dense" and (feature.dimensions or feature.dtype == "binary" or feature.of):
        raise InputError(f"{where}: dimensions, binary and 'of' are for dense vectors, not {feature.kind}.")
    if feature.of is None:
        return
    whole = others.get(feature.of)
    if whole is None or whole.kind != "dense" or whole.of is not None or whole.dtype == "binary":
        dense = [key for key, other in others.items() if other.kind == "dense" and other.of is None]
        raise InputError(
            f"{where} is cut from {feature.of!r}, which is no whole dense one. {nearest(feature.of, dense)}"
        )
    if feature.dimensions is None and feature.dtype == "float32":
        raise InputError(f"{where} is the same as {feature.of!r}: say dimensions, or dtype binary or float16.")


def merged(old: CollectionConfig, told: Mapping[str, Any]) -> CollectionConfig:
    """Return a definition with some of its parts replaced; sources are added to those there are.

    Raises:
        InputError: as ``read``.
    """
    base = old.told()
    sources: Sequence[Any] = [*base.get("sources", ()), *told.get("sources", ())]
    unique = {json.dumps([each["kind"], each["location"]]): each for each in sources}
    return read({**base, **told, "sources": list(unique.values())})


def features_of(told: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read features as they are given in a line: ``NAME=MODEL``, ``NAME=MODEL:sparse``, ``NAME=FEATURE:256``.

    ``:binary`` and ``:multivector`` go the same way.

    Raises:
        InputError: one of them says nothing of the kind.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in told:
        name, mark, value = each.partition("=")
        if not mark or not value:
            raise InputError(f"A feature is NAME=MODEL, such as dense=bge-m3, not {each!r}.", param="feature")
        model, _, form = value.rpartition(":") if ":" in value else (value, "", "")
        if form in ("sparse", "multivector", "dense"):
            found[name] = {"model": model, "kind": form}
        elif form in ("binary", "float16"):
            found[name] = {**_whole(model, found), "dtype": form}
        elif form.isdigit():
            found[name] = {**_whole(model, found), "dimensions": int(form), "force": True}
        else:
            found[name] = {"model": value}
    return found


def _whole(told: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"of": told} if told in found else {"model": told}


def fields_of(told: Sequence[str]) -> dict[str, str]:
    """Read fields as they are given in a line: ``year:int``, or ``lang`` for a text."""
    return {name: kind or "str" for name, _, kind in (each.partition(":") for each in told)}

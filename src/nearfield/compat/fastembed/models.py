"""The models of fastembed, and how fastembed's settings of each become those of a model here."""

from __future__ import annotations

import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import tokenizers

from nearfield.checkpoint import json_file
from nearfield.checkpoint.default_pooling import token_width
from nearfield.checkpoint.max_length import UNBOUNDED, count_positions
from nearfield.compat.model_sources import local_source
from nearfield.errors import InputError
from nearfield.inference.uncompiled_model import UncompiledModel, read_model
from nearfield.recipe import Module, Multivector, Normalize, Pooling, Recipe, RoleFormat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class InputFormat:
    """How a late-interaction model marks inputs: ids of the markers, and what is done to queries and punctuation.

    Queries are filled up to ``query_length`` tokens, marker included, which are attended to or not. ``skip`` says
    whether punctuation in documents gets no vector. ``counts_marker`` says whether the marker is one of the tokens of
    the maximum length.
    """

    query: int = 1
    document: int = 2
    query_length: int | None = 32
    attend: bool = False
    skip: bool = True
    counts_marker: bool = True


#: By model; others have BERT's.
_FORMATS = {
    "jinaai/jina-colbert-v2": InputFormat(250002, 250003, attend=True),
    "lightonai/LateOn": InputFormat(50368, 50369, None, counts_marker=False),
    "lightonai/mLateOn": InputFormat(256000, 256001, None, skip=False, counts_marker=False),
}


class PoolingType(str, Enum):
    """How tokens become one vector, for ``TextEmbedding.add_custom_model``."""

    CLS = "CLS"
    MEAN = "MEAN"
    LAST_TOKEN = "LAST_TOKEN"
    DISABLED = "DISABLED"


#: Our names of them; ``own``: the modules of the model.
POOLINGS = {
    PoolingType.CLS: "cls",
    PoolingType.MEAN: "mean",
    PoolingType.LAST_TOKEN: "lasttoken",
    PoolingType.DISABLED: "own",
}


@dataclass(frozen=True)
class ModelSource:
    """Where fastembed gets a model: a repository on the Hub, or the URL of an archive."""

    hf: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if self.hf is None and self.url is None:
            raise InputError("ModelSource needs hf, the id of a repository on the Hub, or url.", param="hf")


@dataclass(frozen=True)
class FastembedDescription:
    """A model of fastembed. The first fields are those of fastembed's lists; `models.toml` explains the others."""

    model: str
    sources: ModelSource
    model_file: str
    license: str = ""
    size_in_GB: float = 0.0  # noqa: N815 - fastembed's name
    description: str = ""
    additional_files: tuple[str, ...] = ()
    dim: int | None = None
    vocab_size: int | None = None
    requires_idf: bool | None = None
    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None
    loads: str | None = None
    graph: bool = False
    refused: str | None = None

    @property
    def input_format(self) -> InputFormat:
        """The format of a late-interaction model's inputs."""
        return _FORMATS.get(self.model, InputFormat())

    def to_dict(self) -> dict[str, Any]:
        """Return what ``list_supported_models`` shows."""
        shown = ("model", "model_file", "license", "size_in_GB", "description", "dim", "vocab_size", "requires_idf")
        facts = {name: value for name in shown if (value := getattr(self, name)) is not None}
        files = list(self.additional_files)
        return {**facts, "sources": {"hf": self.sources.hf, "url": self.sources.url}, "additional_files": files}


@cache
def builtin_models() -> Mapping[str, tuple[FastembedDescription, ...]]:
    """Return the models of fastembed's own lists by kind: dense, sparse, multivector, scores."""
    text = files(__package__).joinpath("models.toml").read_text(encoding="utf-8")
    return {kind: tuple(map(_description, rows)) for kind, rows in tomllib.loads(text).items()}


def _description(row: dict[str, Any]) -> FastembedDescription:
    facts = dict(row)
    source = ModelSource(facts.pop("hf", None), facts.pop("url", None))
    more = tuple(facts.pop("additional_files", ()))
    return FastembedDescription(model=facts.pop("id"), sources=source, additional_files=more, **facts)


@dataclass(frozen=True)
class ModelLocation:
    """Where the files of a model are looked for: in a folder, in fastembed's cache, or wherever Nearfield looks."""

    folder: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False


def read_dense(description: FastembedDescription, location: ModelLocation) -> UncompiledModel:
    """Read a model of ``TextEmbedding``: the ONNX file of fastembed if it is on this machine, else the weights."""
    folder = Path(location.folder) if location.folder else _fastembed_folder(description, location)
    if folder is None:
        file = description.model_file if description.graph else None
        model = _read_by_name(description, "dense", location, file)
    else:
        is_graph = description.pooling != "own" and description.model_file.endswith(".onnx")
        graph = is_graph and (folder / description.model_file).is_file()
        model = read_model(str(folder), kind="dense", file=description.model_file if graph else None)
    recipe = _with_fastembed_settings(model.recipe, description, known=location.folder is None)
    return replace(model, recipe=_with_pooling(recipe, description))


def read_other(description: FastembedDescription, kind: str, location: ModelLocation) -> UncompiledModel:
    """Read the weights of a model of the other classes; of an ONNX file Nearfield takes dense vectors alone."""
    if location.folder:
        model = read_model(location.folder, kind=kind)
    else:
        model = _read_by_name(description, kind, location, None)
    recipe = _with_fastembed_settings(model.recipe, description, known=location.folder is None)
    recipe = _with_role_formats(recipe, description) if kind == "multivector" else recipe
    return replace(model, recipe=recipe)


def _read_by_name(
    description: FastembedDescription, kind: str, location: ModelLocation, file: str | None
) -> UncompiledModel:
    if description.sources.hf is None:
        raise InputError(
            f"{description.model} has no repository on the Hub (sources.hf). Unpack the archive of its url, and pass "
            "the folder as specific_model_path.",
            param="sources",
        )
    name = description.loads or description.model
    if location.local_files_only:
        local_source(name, [file] if file else [])
    return read_model(name, kind=kind, file=file)


def _fastembed_folder(description: FastembedDescription, location: ModelLocation) -> Path | None:
    """Return the folder in fastembed's cache that has the model's ONNX file, or None."""
    if not location.cache_dir or not description.sources.hf or not description.model_file.endswith(".onnx"):
        return None
    stored = f"models--{description.sources.hf.replace('/', '--')}".lower()
    folders = [
        file.parents[description.model_file.count("/")]
        for repository in Path(location.cache_dir).glob("models--*")
        if repository.name.lower() == stored
        for file in repository.glob(f"snapshots/*/{description.model_file}")
    ]
    return max(folders, key=lambda folder: folder.stat().st_mtime, default=None)


def _with_fastembed_settings(recipe: Recipe, description: FastembedDescription, *, known: bool) -> Recipe:
    """Return the recipe with fastembed's number of tokens. It reads no file of sentence-transformers' settings."""
    length = (description.max_length if known else None) or _tokenizer_length(recipe.folder) or recipe.max_length
    positions = count_positions(recipe.config)
    return replace(recipe, max_length=min(length, positions or length), do_lower_case=False)


def _tokenizer_length(folder: Path) -> int | None:
    """Return the smaller of the two lengths that a tokenizer's config may state, as fastembed does."""
    config = json_file.read_optional(folder / "tokenizer_config.json")
    stated = [config[key] for key in ("model_max_length", "max_length") if key in config]
    lengths = [int(value) for value in stated if isinstance(value, (int, float)) and 0 < value < UNBOUNDED]
    return min(lengths, default=None)


def _with_pooling(recipe: Recipe, description: FastembedDescription) -> Recipe:
    """Return the recipe with fastembed's pooling in place of the model's own modules."""
    unit: tuple[Module, ...] = (Normalize(),) if description.normalize else ()
    if description.pooling is None or description.pooling == "own":
        return replace(recipe, modules=(*recipe.modules, *(() if recipe.normalized else unit)), heads=())
    modules: Sequence[Module] = (Pooling((description.pooling,)), *unit)
    width = token_width(recipe.folder, dict(recipe.config))
    return replace(recipe, modules=tuple(modules), dimensions=width, heads=())


def _with_role_formats(recipe: Recipe, description: FastembedDescription) -> Recipe:
    """Return the recipe with fastembed's formats: long queries are read to their end, short ones filled up."""
    spec = cast(Multivector, recipe.head("multivector"))
    tokenizer = tokenizers.Tokenizer.from_file(str(recipe.folder / "tokenizer.json"))
    form = description.input_format
    expand = form.query_length is not None
    query = RoleFormat(_token(tokenizer, form.query), expand=expand, attend=form.attend, expand_to=form.query_length)
    skip = _skipped(tokenizer, recipe, padding=expand) if form.skip else ()
    document = RoleFormat(_token(tokenizer, form.document), skip=skip)
    head = replace(spec, query=query, document=document, skip_first_tokens=0)
    return replace(recipe, heads=(head,), max_length=recipe.max_length + (not form.counts_marker))


def _token(tokenizer: tokenizers.Tokenizer, number: int) -> str:
    token = tokenizer.id_to_token(number)
    if token is None:
        raise InputError(f"The tokenizer has no token {number}, which marks an input's role.", param="model_name")
    return str(token)


def _skipped(tokenizer: tokenizers.Tokenizer, recipe: Recipe, *, padding: bool) -> tuple[str, ...]:
    """Return the tokens without a vector in documents: the first one of each punctuation mark, and the padding's."""
    numbers = [tokenizer.encode(mark, add_special_tokens=False).ids[0] for mark in string.punctuation]
    numbers += [int(recipe.config.get("pad_token_id") or 0)] * padding
    return tuple(dict.fromkeys(_token(tokenizer, number) for number in numbers))

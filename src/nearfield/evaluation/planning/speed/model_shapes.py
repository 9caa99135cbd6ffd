"""Shapes (width, depth, vocabulary) of the catalogue's models, to estimate their speed before a download."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from nearfield.catalog import CatalogEntry
from nearfield.evaluation.json_types import JsonMapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class ModelShape:
    """Widths and depth of a transformer; with 0 ``layers``, it is a static model (a table of vectors).

    ``vocabulary`` and ``inner`` are rows; ``attention`` is the width of all heads, ``keys`` that of keys and values;
    0 means ``hidden``. ``untied``: the weights have the vocabulary twice. ``slower``: a layer computes more than its
    matrices (DeBERTa's distances), so that the estimated speed is too high. ``scores_words``: each token is also
    multiplied with the vocabulary, as in sparse models. ``idle``: rows like ``inner``, of experts that a token does not
    meet.
    """

    name: str
    hidden: int
    layers: int = 0
    inner: int = 0
    vocabulary: int = 0
    gated: bool = False
    attention: int = 0
    keys: int = 0
    untied: bool = False
    slower: bool = False
    scores_words: bool = False
    idle: int = 0

    @property
    def heads_width(self) -> int:
        """The width of the queries of all heads."""
        return self.attention or self.hidden

    @property
    def layer_weights(self) -> int:
        """The number of weights in the matrices of a layer; each is multiplied once per token."""
        both = self.heads_width + (self.keys or self.hidden)
        return 2 * self.hidden * both + self._inner_weights(self.inner)

    @property
    def parameters(self) -> int:
        """The number of weights in all matrices and the vocabulary, without norms, biases and positions."""
        layer = self.layer_weights + self._inner_weights(self.idle)
        return self.layers * layer + self.vocabulary * self.hidden * (2 if self.untied else 1)

    def _inner_weights(self, rows: int) -> int:
        return (3 if self.gated else 2) * self.hidden * rows

    @property
    def head_weights(self) -> int:
        """The number of weights that a token is multiplied with after the layers."""
        return self.hidden * (self.vocabulary + self.hidden) if self.scores_words else 0


def shape_of(entry: CatalogEntry) -> ModelShape | None:
    """Return the shape of a model; None: unknown."""
    if entry.family == "static":
        return ModelShape("static", entry.dimensions, vocabulary=(entry.parameters or 0) // entry.dimensions)
    facts = _facts().get(entry.id)
    return None if facts is None else ModelShape(**facts, scores_words=entry.kind == "sparse")


@dataclass(frozen=True)
class PictureTower:
    """The tower of a model that reads pictures, and the patches of a picture, each of which costs a token."""

    shape: ModelShape
    patches: int


#: Patches of a picture for models that take pictures of any size: their default.
_FLEXIBLE_PATCHES = 256


def picture_tower_of(entry: CatalogEntry) -> PictureTower | None:
    """Return the tower of a model for pictures; None: unknown, or no single tower."""
    facts = _towers().get(entry.id)
    if facts is None:
        return None
    shape = ModelShape(facts["name"], facts["hidden"], facts["layers"], facts["inner"])
    patches = (entry.image_size // facts["patch"]) ** 2 if entry.image_size else _FLEXIBLE_PATCHES
    return PictureTower(shape, patches)


#: Vectors of a page where no number is known.
_PAGE_VECTORS = 1024


def page_vectors_of(entry: CatalogEntry) -> int:
    """Return the vectors of a page of A4 in a model of late interaction of pages, at most what it is scaled to."""
    return _pages().get(entry.id, _PAGE_VECTORS)


@lru_cache(maxsize=1)
def _pages() -> Mapping[str, int]:
    rows = tomllib.loads(files(__package__).joinpath("picture_towers.toml").read_text(encoding="utf-8"))["page"]
    return MappingProxyType({model: row["vectors"] for row in rows for model in row["models"]})


@lru_cache(maxsize=1)
def _towers() -> Mapping[str, JsonMapping]:
    rows = tomllib.loads(files(__package__).joinpath("picture_towers.toml").read_text(encoding="utf-8"))["tower"]
    return MappingProxyType({model: MappingProxyType(row) for row in rows for model in row["models"]})


@lru_cache(maxsize=1)
def _facts() -> Mapping[str, JsonMapping]:
    rows = tomllib.loads(files(__package__).joinpath("model_shapes.toml").read_text(encoding="utf-8"))["shape"]
    facts = {}
    for row in rows:
        models = row.pop("models")
        facts.update({model: MappingProxyType(row) for model in models})
    return MappingProxyType(facts)

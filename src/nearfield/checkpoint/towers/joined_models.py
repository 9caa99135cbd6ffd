"""Two models that share a space, and lie in two repositories: one of pictures, one of texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from nearfield.errors import ModelRefused
from nearfield.recipe import Centre, Normalize, Recipe

if TYPE_CHECKING:
    from nearfield.catalog import CatalogEntry


def join_partner(recipe: Recipe, entry: CatalogEntry, read: Callable[[str], Recipe]) -> Recipe:
    """Return a recipe together with that of the other model which the catalogue names for its texts or its pictures.

    ``read`` returns the recipe of a model by its id. Raises as ``join_text_model`` does.
    """
    if entry.text_model is not None:
        return join_text_model(recipe, read(entry.text_model))
    return recipe if entry.image_model is None else join_image_model(recipe, read(entry.image_model))


def join_text_model(images: Recipe, texts: Recipe) -> Recipe:
    """Return one recipe of both, under the name of the model of pictures. Vectors have unit length.

    A text model that is centred before truncation alone (nomic-embed-text-v1.5) is centred always: that is how the
    tower of pictures was aligned with it (Nussbaum et al. 2024, arXiv:2406.18587).

    Raises:
        ModelRefused: their vectors have different sizes.
    """
    return _join(images, texts, images)


def join_image_model(texts: Recipe, pictures: Recipe) -> Recipe:
    """Return one recipe of both, under the name of the model of texts. Vectors have unit length.

    Of a model of two towers, such as CLIP, the pictures are taken, and the scale of its scores (zero-shot), since the
    texts were trained to have the vectors of its texts (Reimers and Gurevych 2020, arXiv:2004.09813).

    Raises:
        ModelRefused: their vectors have different sizes.
    """
    images = pictures if pictures.modality == "image" else pictures.towers["image"]
    return replace(_join(images, texts, texts), zero_shot=pictures.zero_shot)


def _join(images: Recipe, texts: Recipe, named: Recipe) -> Recipe:
    if images.dimensions != texts.dimensions:
        raise ModelRefused(
            f"{images.name} gives vectors of {images.dimensions} dimensions, and {texts.name}, whose texts should "
            f"share its space, those of {texts.dimensions} dimensions"
        )
    own = texts.modules[:-1] if texts.normalized else texts.modules
    pictures = images.modules if images.normalized else (*images.modules, Normalize())
    return replace(
        texts,
        name=named.name,
        revision=named.revision,
        licence=named.licence,
        modules=(*own, *([Centre()] if texts.centre else []), Normalize()),
        centre=False,
        towers=MappingProxyType({"image": replace(images, modules=pictures, normalize_by_default=False)}),
        warnings=(*texts.warnings, *images.warnings),
    )

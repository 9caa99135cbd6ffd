"""Two models that share a space, and lie in two repositories: one of pictures, one of texts."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from nearfield.errors import ModelRefused
from nearfield.recipe import Centre, Normalize, Recipe


def join_text_model(images: Recipe, texts: Recipe) -> Recipe:
    """Return one recipe of both, under the name of the model of pictures. Vectors have unit length.

    A text model that is centred before truncation alone (nomic-embed-text-v1.5) is centred always: that is how the
    tower of pictures was aligned with it (Nussbaum et al. 2024, arXiv:2406.18587).

    Raises:
        ModelRefused: their vectors have different sizes.
    """
    if images.dimensions != texts.dimensions:
        raise ModelRefused(
            f"{images.name} gives vectors of {images.dimensions} dimensions, and {texts.name}, whose texts should "
            f"share its space, those of {texts.dimensions} dimensions"
        )
    own = texts.modules[:-1] if texts.normalized else texts.modules
    pictures = images.modules if images.normalized else (*images.modules, Normalize())
    return replace(
        texts,
        name=images.name,
        revision=images.revision,
        licence=images.licence,
        modules=(*own, *([Centre()] if texts.centre else []), Normalize()),
        centre=False,
        towers=MappingProxyType({"image": replace(images, modules=pictures, normalize_by_default=False)}),
        warnings=(*texts.warnings, *images.warnings),
    )

"""Zero-shot classification: labels as texts, compared with inputs by the scale with which a model was trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.argument_checks import require_once
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.inference.calls.rerank_options import activate
from nearfield.recipe import Recipe, ZeroShot
from nearfield.text_inputs import check_texts, many_texts
from nearfield.vectors.dense import normalize

LOG = logging.getLogger(__name__)
#: Ends of the names of files with media, and the longest text that is taken for such a name.
_FILE_NAMES: tuple[str, ...] = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".mp4",
    ".mov",
)
_FILE_NAMES += (".mkv", ".webm", ".avi", ".wav", ".flac", ".ogg", ".mp3", ".aiff")
_MAX_NAME = 1024

#: The sentence of a label, where a caller gives no other: what the authors of CLIP and of CLAP used.
DEFAULT_TEMPLATES: Mapping[str, str] = {"image": "a photo of a {}.", "audio": "This is a sound of {}."}


def warn_of_file_names(items: Iterable[Any]) -> list[Any]:
    """Return the inputs, and log a warning for the first text that is probably meant as a file.

    That is one which ends like the name of a file of media, or for which there is a file.

    Nothing is opened: a string is a text everywhere.
    """
    inputs = list(items)
    for number, item in enumerate(inputs):
        if isinstance(item, str) and _looks_like_file(item):
            LOG.warning(
                "Input %d, %r, is compared as a text: a string is no path. For a file, pass nearfield.Image(path=...), "
                "Audio(path=...) or Video(path=...), or a pathlib.Path.",
                number,
                item[:200],
            )
            break
    return inputs


def _looks_like_file(text: str) -> bool:
    if not text or len(text) > _MAX_NAME or "\n" in text:
        return False
    # isfile() is false for a text that no file can be called.
    return text.lower().endswith(_FILE_NAMES) or os.path.isfile(text)  # noqa: PTH113 - Path.is_file may raise


def label_prompts(
    labels: object, templates: Sequence[str] | str | None, modalities: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the labels, and their sentences: for each label one of each template.

    ``modalities`` are those that the model reads: of pictures one says something else than of sounds.

    Raises:
        InputError: there is no label, or one twice; or a template has no place for the label.
    """
    names = many_texts(labels, "labels", "Label")
    if not names:
        raise InputError("labels is empty: give the names of the classes.", param="labels")
    if any(not name.strip() for name in names):
        raise InputError("A name in labels is empty: leave it out.", param="labels")
    require_once("labels", names)
    if templates is None:
        templates = DEFAULT_TEMPLATES["audio" if "audio" in modalities else "image"]
    patterns = [templates] if isinstance(templates, str) else list(templates)
    check_texts(patterns, "templates", "Template")
    for pattern in patterns:
        if "{}" not in pattern:
            raise InputError(f"The template {pattern!r} has no {{}} for the label.", param="templates")
    if not patterns:
        raise InputError("templates is empty: leave it out for one that fits.", param="templates")
    return names, [pattern.replace("{}", name) for name in names for pattern in patterns]


def class_vectors(prompts: Array, labels: int) -> Array:
    """Return one vector of unit length for each label [labels, dim] from those of its sentences [labels x n, dim].

    Each is scaled to unit length before the mean is taken, and the mean again (Radford et al. 2021, section 3.1.4).
    """
    sentences = normalize(prompts).reshape(labels, -1, prompts.shape[1])
    return normalize(sentences.mean(1))


def zero_shot_scores(inputs: Array, classes: Array, spec: ZeroShot, activation: str | None) -> Array:
    """Return scores [n, labels] of inputs [n, dim] and classes [labels, dim], as the model was trained to give them."""
    cosines = normalize(inputs) @ classes.T
    return activate(np.asarray(cosines * spec.scale + spec.bias, np.float32), activation or spec.activation)


def zero_shot_spec(recipe: Recipe) -> ZeroShot:
    """Return the scale and activation of a model.

    Raises:
        InputError: the model was not trained to compare texts with other inputs, or its folder holds no scale.
    """
    if recipe.zero_shot is None:
        raise InputError(
            f"{recipe.name} has no scale for scores of labels: zero_shot is for models such as CLIP and CLAP. "
            "Compare vectors by similarity instead.",
            param="model",
        )
    return recipe.zero_shot

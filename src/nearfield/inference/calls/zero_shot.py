"""Zero-shot classification: labels as texts, compared with pictures by the scale with which a model was trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearfield.argument_checks import require_once
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.inference.calls.rerank_options import activate
from nearfield.recipe import Recipe, ZeroShot
from nearfield.text_inputs import check_texts, many_texts
from nearfield.vectors.dense import normalize

#: The sentence of a label, where a caller gives no other: what CLIP's authors used for photos.
DEFAULT_TEMPLATES = ("a photo of a {}.",)


def label_prompts(labels: object, templates: Sequence[str] | str | None) -> tuple[list[str], list[str]]:
    """Return the labels, and their sentences: for each label one of each template.

    Raises:
        InputError: there is no label, or one twice; or a template has no place for the label.
    """
    names = many_texts(labels, "labels", "Label")
    if not names:
        raise InputError("labels is empty: give the names of the classes.", param="labels")
    require_once("labels", names)
    patterns = (
        [templates] if isinstance(templates, str) else list(DEFAULT_TEMPLATES if templates is None else templates)
    )
    check_texts(patterns, "templates", "Template")
    for pattern in patterns:
        if "{}" not in pattern:
            raise InputError(f"The template {pattern!r} has no {{}} for the label.", param="templates")
    if not patterns:
        raise InputError("templates is empty: leave it out for 'a photo of a {}.'.", param="templates")
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
        InputError: the model was not trained to compare pictures with texts, or its folder holds no scale.
    """
    if recipe.zero_shot is None:
        raise InputError(
            f"{recipe.name} has no scale for the scores of labels: zero_shot is for models such as CLIP and SigLIP. "
            "Compare vectors by similarity instead.",
            param="model",
        )
    return recipe.zero_shot

"""Inputs of rerankers and classifiers: check them, and split them into the first and the second texts of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nearfield.errors import InputError
from nearfield.inference.preparation.media_inputs import is_medium, read_item
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.message_text import count_of
from nearfield.recipe import Recipe
from nearfield.text_inputs import advice, describe, one_or_many

#: A query or a document: a text, or what a model reads besides, as ``Encoder.encode`` takes it.
PairPart: TypeAlias = str | Image | MixedContent | Mapping[str, Any] | Sequence[Any]


def pair_up(query: Any, documents: Iterable[Any], recipe: Recipe | None = None) -> tuple[list[Any], list[Any]]:
    """Return the first and the second texts of pairs: one query with each document, or pair by pair.

    For a model that reads texts and pictures together, they may have pictures: they are then `MixedContent`.

    Raises:
        InputError: an argument is no list of texts, or the numbers of queries and documents differ.
    """
    reads = ("text",) if recipe is None else recipe.modalities
    seconds = [_content(item, number, recipe) for number, item in enumerate(list_texts(documents, "documents"))]
    if isinstance(query, str) or is_medium(query, reads):
        firsts = [_content(query, 0, recipe)] * len(seconds)
    else:
        firsts = [_content(item, number, recipe) for number, item in enumerate(list_texts(query, "query"))]
    if len(firsts) != len(seconds):
        raise InputError(
            f"There are {count_of(len(firsts), 'query', 'queries')} and {count_of(len(seconds), 'document')}: give "
            "one query, or one for each.",
            param="query",
        )
    return firsts, seconds


def _content(item: object, number: int, recipe: Recipe | None) -> Any:
    """Return a text unchanged, and what has pictures as `MixedContent`."""
    if isinstance(item, str) or recipe is None or not is_medium(item, recipe.modalities, in_list=True):
        return item
    return read_item(item, number, recipe.modalities, fuses=recipe.fuses)


def split_pairs(items: Iterable[Any]) -> tuple[list[Any], list[Any] | None]:
    """Return the first texts of pairs and the second ones; None in place of the second ones for single texts.

    Raises:
        InputError: it is no list, or has texts and pairs.
    """
    listed = list_texts(items, "input", "texts or pairs of texts")
    pairs = [isinstance(item, (tuple, list, np.ndarray)) and len(item) == 2 for item in listed]
    if not any(pairs):
        return listed, None
    if not all(pairs):
        single = listed[pairs.index(False)]
        raise InputError(
            f"Give texts or pairs of texts, not both at once: input {pairs.index(False)} is "
            f"{'a text' if isinstance(single, str) else f'no pair ({type(single).__name__})'}, and input "
            f"{pairs.index(True)} is a pair.",
            param="input",
        )
    return [first for first, _ in listed], [second for _, second in listed]


def check_pairs(
    firsts: Sequence[object], seconds: Sequence[object] | None, param: str = "input", start: int = 0
) -> None:
    """Raise InputError, with its number from ``start`` on, for the first that is no text or pair of texts."""
    if seconds is None:
        for index, text in enumerate(firsts, start):
            _check_text(f"Input {index}", text, param)
        return
    for index, (first, second) in enumerate(zip(firsts, seconds, strict=True), start):
        _check_text(f"Pair {index}: the first text", first, param)
        _check_text(f"Pair {index}: the second text", second, param)


def _check_text(which: str, text: object, param: str) -> None:
    if not isinstance(text, (str, MixedContent)):
        raise InputError(f"{which} must be a string, and is {describe(text)}.{advice(text)}", param=param)


def list_texts(values: object, name: str, kind: str = "texts") -> list[Any]:
    """Return the items of a list, an array, a column of a table or a generator.

    Raises:
        InputError: it is a single value, or a table or a mapping, whose items are no texts.
    """
    several = one_or_many(values, name, pairs=name == "input")
    if isinstance(several, str):
        raise InputError(f"{name} must be a list of {kind}, and is one text.", param=name)
    return list(several)

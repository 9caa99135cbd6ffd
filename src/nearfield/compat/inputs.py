"""Texts and pairs of texts as other libraries take them; what has columns, keys or no order is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nearfield.errors import InputError
from nearfield.inference.preparation import pair_inputs
from nearfield.message_text import count_of
from nearfield.text_inputs import check_texts, describe, one_or_many, record_names


def read_texts(value: object, param: str) -> str | list[str]:
    """Return one text, or several as a list.

    Raises:
        InputError: it is neither a text nor several, or an item is no text.
    """
    several = one_or_many(value, param)
    if isinstance(several, str):
        return several
    texts = list(several)
    check_texts(texts, param)
    return texts


def iterate_texts(value: object, param: str) -> Iterable[str]:
    """Return one text, or several, to iterate. Those of a list are checked now, those of an iterator as they come.

    Raises:
        InputError: it is neither a text nor several, or an item is no text.
    """
    if not isinstance(value, Iterator):
        texts = read_texts(value, param)
        return [texts] if isinstance(texts, str) else texts
    return _checked(one_or_many(value, param), param)


def _checked(items: Iterable[Any], param: str) -> Iterator[str]:
    for number, item in enumerate(items):
        check_texts((item,), param, first=number)
        yield item


def read_pairs(value: object, param: str) -> tuple[list[Sequence[str]], bool]:
    """Return pairs of texts, and whether they were a single pair.

    Raises:
        InputError: it is no list of pairs, or something in the list is no pair of texts.
    """
    items = list(iterate_pairs(value, param))
    single = bool(items) and isinstance(items[0], str)
    pairs: list[Any] = [items] if single else items
    check_pairs(pairs, param, hint=" Pass a list of pairs: [[query, passage], ...]." if single else "")
    return pairs, single


def iterate_pairs(value: object, param: str) -> Iterable[Any]:
    """Return a list, an array or an iterator of what may be pairs; its items are not checked.

    Raises:
        InputError: it is one text, has columns or keys, has no order, or is nothing that can be iterated.
    """
    if isinstance(value, tuple):
        return value
    names = record_names(value)
    if names is not None:
        columns = [f"data[{name!r}]" for name in (*names, "query", "passage")[:2]]
        raise InputError(
            f"{param} is {describe(value)}, and no list of pairs: give two columns, as in "
            f"list(zip({', '.join(columns)})).",
            param=param,
        )
    items: Iterable[Any] | str = one_or_many(value, param, pairs=True)
    if isinstance(items, str):
        raise InputError(f"{param} must be a pair of texts or a list of pairs, and is {describe(items)}.", param=param)
    return items


def check_pairs(items: Sequence[Any], param: str, first: int = 0, hint: str = "") -> None:
    """Raise InputError if an item is no pair of texts.

    Args:
        items: lists, tuples or arrays of two texts.
        param: the argument's name.
        first: the number of the first item in the message.
        hint: what to do if an item has another number of texts, with a space before it.
    """
    for number, item in enumerate(items, first):
        is_list = isinstance(item, (list, tuple)) or (isinstance(item, np.ndarray) and item.ndim == 1)
        if not is_list or len(item) != 2:
            what = count_of(len(item), "text") if is_list else describe(item)
            raise InputError(
                f"Pair {number} must have two texts, a query and a passage, and is {what}.{hint}", param=param
            )
    pair_inputs.check_pairs([item[0] for item in items], [item[1] for item in items], param, first)

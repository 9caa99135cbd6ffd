"""Texts that callers pass: one text, several texts, or something else, which is refused in words of the caller's data.

Iterating a table gives the names of its columns, and iterating a mapping its keys: encoded, they look like results.
So nothing with columns or keys is iterated here.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from nearfield.errors import InputError
from nearfield.message_text import escape_controls

#: Kinds of NumPy arrays that may hold texts: strings, strings of any length, and objects.
_TEXT_KINDS = "UTO"
#: Attributes in which objects of libraries have their text.
_TEXT_ATTRIBUTES = ("text", "page_content", "content", "body")
#: Classes of polars for groups of rows.
_GROUPS = ("DynamicGroupBy", "GroupBy", "RollingGroupBy")
#: Names in a message, rows that are read to see whether a column has texts, and characters of a value.
_MAX_NAMES, _SAMPLE, _MAX_VALUE = 8, 16, 60

#: What is iterable and no list of texts, and what to do.
_REFUSED: Mapping[tuple[type, ...], str] = {
    (bytes, bytearray, memoryview): "not text: decode it, as in data.decode('utf-8').",
    (os.PathLike,): "not text: read the file, as in path.read_text().",
    (io.IOBase,): "an open file: give file.read() for one text, or file.read().splitlines() for a text a line.",
    (set, frozenset): "which has no order, so that no result could be assigned to its text: give a list.",
}


def one_or_many(value: object, param: str = "input", *, pairs: bool = False) -> Any:
    """Return one text as a string, or several inputs as an iterable whose items are not checked.

    A zero-dimensional array of a text is one text. A column of a data frame or of a table is several. ``pairs`` takes
    an array of two dimensions as its rows.

    Raises:
        InputError: it has columns or keys, has no order, or is neither a text nor several.
    """
    if isinstance(value, str):
        return value
    if type(value) in (list, tuple):
        return value
    if isinstance(value, np.ndarray):
        return list(value) if pairs and value.ndim == 2 else _of_array(value, param)
    _refuse_groups(value, param)
    _refuse_records(value, param)
    for kinds, what in _REFUSED.items():
        if isinstance(value, kinds):
            raise InputError(f"{param} is {_kind(value)}, {what}", param=param)
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor of token ids
        return _of_array(value.detach().cpu().numpy(), param)
    if hasattr(value, "to_pylist"):  # an array of Arrow, whose items are no Python strings
        return value.to_pylist()
    if not isinstance(value, Iterable):
        raise InputError(f"{param} must be a text or a list of texts, and is {describe(value)}.", param=param)
    return value


def many_texts(value: object, param: str, unit: str = "Text") -> list[str]:
    """Return several texts as a list.

    Raises:
        InputError: it is one text, has columns or keys, or an item is no text.
    """
    several = one_or_many(value, param)
    if isinstance(several, str):
        raise InputError(f"{param} must be a list of texts, and is one text.", param=param)
    texts = list(several)
    check_texts(texts, param, unit)
    return texts


def one_text(value: object, param: str) -> str:
    """Return one text as a string.

    Raises:
        InputError: it is something else.
    """
    text = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if not isinstance(text, str):
        raise InputError(f"{param} must be a text, and is {describe(text)}.{advice(text)}", param=param)
    return text


def check_texts(items: Sequence[object], param: str, unit: str = "Text", first: int = 0) -> None:
    """Raise InputError if an item is no text; ``first`` is the number of the first in the message."""
    for number, item in enumerate(items, first):
        if not isinstance(item, str):
            refuse_item(item, number, param, unit)


def refuse_item(item: object, number: int, param: str, unit: str = "Input", expected: str = "a text") -> NoReturn:
    """Raise InputError for an item that is no text."""
    raise InputError(f"{unit} {number} is {describe(item)}, not {expected}.{advice(item)}", param=param)


def describe(value: object) -> str:
    """Return what a value is, for a message: ``None``, ``the number 3``, ``of type dict with the keys id, text``."""
    if value is None:
        return "None"
    if isinstance(value, (bool, np.bool_)):
        return f"the truth value {bool(value)}"
    if isinstance(value, (int, float, np.number)):
        return f"the number {value}"
    names = record_names(value)
    if names is not None:
        what = "keys" if isinstance(value, Mapping) else "columns" if _is_table(value) else "fields"
        return f"{_kind(value)} with the {what} {_listed(names)}"
    return f"{_kind(value)} ({_short(value)})"


def record_names(value: object) -> list[str] | None:
    """Return the names of the columns, keys or fields of a value; None if it has none."""
    if isinstance(value, Mapping):
        return [str(key) for key in islice(value, _MAX_NAMES + 1)]
    if isinstance(value, type):
        return None
    if _is_table(value):
        return [str(name) for name in _columns(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [str(name) for name in value._fields]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    fields = getattr(type(value), "model_fields", None) or getattr(type(value), "__struct_fields__", None)
    return [str(name) for name in fields] if isinstance(fields, Iterable) else None


def _of_array(array: np.ndarray[Any, Any], param: str) -> Any:
    if np.ma.is_masked(array):
        raise InputError(f"{param} is an array with masked items: fill them, as in texts.filled('').", param=param)
    if array.ndim == 0:
        return one_or_many(array.item(), param)
    if array.dtype.names:
        _refuse_records(array, param)
    if array.dtype.kind in "iu":
        return array if array.ndim == 1 else list(array)
    if array.dtype.kind not in _TEXT_KINDS and array.size:
        raise InputError(f"{param} is an array of {array.dtype}, and must be texts.", param=param)
    if array.ndim > 1:
        raise InputError(
            f"{param} is an array of shape {array.shape}, and must have one dimension: give one column, such as "
            "texts[:, 0].",
            param=param,
        )
    return array


def _refuse_groups(value: object, param: str) -> None:
    """Raise InputError for the groups of a data frame or of a column: iterated, they are pairs of a key and rows."""
    if hasattr(type(value), "ngroups") or type(value).__name__ in _GROUPS:
        raise InputError(
            f"{param} is {_kind(value)}, the groups of a table, and no list of texts: give a column of the table, "
            "or encode each group by itself.",
            param=param,
        )


def _refuse_records(value: object, param: str) -> None:
    """Raise InputError for what has columns, keys or fields, with the names of those that hold texts."""
    names = record_names(value)
    if names is None:
        return
    raise InputError(f"{param} is {describe(value)}, and no list of texts: {_record_advice(value, names)}", param=param)


def _record_advice(value: object, names: Sequence[str]) -> str:
    if not isinstance(value, Mapping) and not _is_table(value):
        attribute = _text_attribute(value)
        return f"give its text, as in item.{attribute}." if attribute else "give its text."
    nested = [name for name in names[:_MAX_NAMES] if _is_table(_column(value, name))]
    if nested:  # the splits of a data set
        columns = _text_columns(_column(value, nested[0]))
        return f"give a column of one part, such as data[{nested[0]!r}][{(columns or ['text'])[0]!r}]."
    columns = [repr(name) for name in _text_columns(value)]
    if not columns:
        return "give its column of texts, such as data['text']."
    return f"give {' or '.join(f'data[{name}]' for name in columns[:_MAX_NAMES])}."


def _is_table(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.dtype.names)
    if isinstance(value, (type, Mapping, str, bytes, list, tuple)):
        return False
    if hasattr(value, "collect_schema"):  # of polars, where to read the columns of a lazy frame is a warning
        return True
    names = (getattr(value, name, None) for name in ("column_names", "columns"))
    return any(isinstance(name, Iterable) and not isinstance(name, str) and not callable(name) for name in names)


def _columns(table: Any) -> list[Any]:
    if isinstance(table, np.ndarray):
        return list(table.dtype.names or ())
    if hasattr(table, "collect_schema"):
        return list(table.collect_schema().names())
    names = getattr(table, "column_names", None)
    return list(table.columns if names is None or callable(names) else names)


def _column(table: Any, name: str) -> Any:
    try:
        return table[name]
    except Exception:  # noqa: BLE001 - of any library; the message then does without it
        return None


def _text_columns(table: Any) -> list[Any]:
    """Return the names of the columns, or keys, whose first values are texts."""
    features = getattr(table, "features", None)
    if isinstance(features, Mapping):  # of a data set, whose columns may be large
        return [name for name, feature in features.items() if "string" in str(getattr(feature, "dtype", ""))]
    names = list(islice(table, _MAX_NAMES)) if isinstance(table, Mapping) else _columns(table)[:_MAX_NAMES]
    return [_plain_name(name) for name in names if _has_texts(_column(table, name))]


def _plain_name(name: Any) -> Any:
    """Return the name of a column as Python writes it: a table with several rows of headers has tuples of names."""
    return tuple(map(str, name)) if isinstance(name, tuple) else str(name)


def _has_texts(column: Any) -> bool:
    if isinstance(column, str):
        return True
    if not isinstance(column, Iterable) or isinstance(column, (bytes, Mapping)):
        return False
    values = [value.as_py() if hasattr(value, "as_py") else value for value in islice(column, _SAMPLE)]
    return any(isinstance(value, str) for value in values)


def _text_attribute(value: object) -> str | None:
    if isinstance(value, type):
        return None
    return next((name for name in _TEXT_ATTRIBUTES if isinstance(getattr(value, name, None), str)), None)


def advice(item: object) -> str:
    """Return what to do about an item that is no text, with a space before it."""
    if item is None or (isinstance(item, float) and item != item) or type(item).__name__ in ("NAType", "NaTType"):
        return " Leave it out, or give an empty text in its place."
    if isinstance(item, (bytes, bytearray)):
        return " Decode it, as in item.decode('utf-8')."
    if isinstance(item, os.PathLike):
        return " Read the file, as in path.read_text()."
    if isinstance(item, Mapping):
        keys = _text_columns(item)
        return f" Give its text, as in [item[{keys[0]!r}] for item in items]." if keys else ""
    attribute = _text_attribute(item)
    if attribute is not None:
        return f" Give its text, as in [item.{attribute} for item in items]."
    if isinstance(item, (list, tuple)) and item and all(isinstance(part, str) for part in item):
        return " Give one flat list of texts."
    return ""


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _short(value: object) -> str:
    text = escape_controls(repr(value))
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(escape_controls(name)[:_MAX_VALUE] for name in names[:_MAX_NAMES])
    return f"{shown}, …" if len(names) > _MAX_NAMES else shown or "(none)"

"""Filters: conditions on records' fields, as callers write them and as stores translate them.

A filter is written like JSON: ``{"lang": "en", "year": {"gte": 2020, "lt": 2024}, "tag": {"in": ["a"]}}`` is
the conjunction of its entries; ``{"or": [...]}``, ``{"and": [...]}`` and ``{"not": {...}}`` combine filters. A record
that lacks a field meets no condition on it but ``ne``, ``nin`` and ``{"exists": false}``: ``not`` is the complement.

A filter has a maximum size, since some databases walk it recursively in native code: a chain of 45,000 conditions
overflows the stack of LanceDB and ends the process. Stores combine many conditions as balanced trees.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from nearfield.errors import InputError, nearest

Value = str | int | float | bool
FieldType = Literal["str", "int", "float", "bool"]
TYPES: Mapping[str, type[Any]] = {"str": str, "int": int, "float": float, "bool": bool}
_KINDS: Mapping[str, str] = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
#: Fields that each record has, whatever else a table declares.
BUILT_IN: Mapping[str, FieldType] = {"id": "str", "document": "str", "version": "str", "ordinal": "int"}
#: ``ne`` and ``nin`` are the complements of ``eq`` and ``in``, and are read as such.
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_MAX_DEPTH = 32
#: Conditions of a filter. BM25 tests them for each chunk with a word of the query: 256 take 1.5 s for 20,000 chunks.
MAX_CONDITIONS = 256
#: Values and characters of a filter, in all its lists. A search of 20,000 records by 10,000 values takes 0.3 s.
MAX_VALUES, MAX_CHARACTERS = 10_000, 1_000_000
ExpressionT = TypeVar("ExpressionT")


@dataclass(frozen=True)
class Compare:
    """One condition. ``op`` is eq, gt, gte, lt, lte (with a value), in (with a tuple) or exists (value True)."""

    field: str
    op: Literal["eq", "gt", "gte", "lt", "lte", "in", "exists"]
    value: Any

    @cached_property
    def values(self) -> frozenset[Value]:
        """The values of ``in``."""
        return frozenset(self.value)


@dataclass(frozen=True)
class All:
    """Every part holds; of no parts, always."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """At least one part holds; of no parts, never."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = Compare | All | Either | Not


def one_of(field: str, values: Sequence[Value]) -> Compare:
    """Return the filter for a field with one of these values."""
    return Compare(field, "in", tuple(values))


def equals(field: str, value: Value) -> Compare:
    """Return the filter for a field with this value."""
    return Compare(field, "eq", value)


def parse_filter(condition: object, fields: Mapping[str, FieldType]) -> Filter | None:
    """Return the filter that a caller wrote; None for one without conditions.

    Raises:
        InputError: a field that the table does not declare, an unknown operator, a value of another type, or a filter
            that is too large.
    """
    if condition is None or condition == {}:
        return None
    _check_size(condition)
    return _parse(condition, {**BUILT_IN, **fields}, 0)


def _check_size(condition: object) -> None:
    """Raise InputError if a filter has too many conditions, values or characters."""
    conditions = values = characters = 0
    left = [condition]
    while left:
        part = left.pop()
        entries = part.items() if isinstance(part, Mapping) else ()
        conditions += not entries
        for name, value in entries:
            if name in ("and", "or") and isinstance(value, (list, tuple)):
                conditions += not value
                left.extend(value)
            elif name == "not":
                left.append(value)
            else:
                operands = [*value.values()] if isinstance(value, Mapping) else [value]
                conditions += max(1, len(operands))
                lists = [operand for operand in operands if isinstance(operand, (list, tuple))]
                values += sum(map(len, lists))
                texts = (text for texts in (operands, *lists) for text in texts if isinstance(text, str))
                characters += sum(map(len, texts))
    advice = "Put values of one field into one 'in'."
    for count, maximum, what in (
        (conditions, MAX_CONDITIONS, f"conditions; the maximum is {MAX_CONDITIONS:,}. {advice}"),
        (values, MAX_VALUES, f"values; the maximum is {MAX_VALUES:,}. Search in parts."),
        (characters, MAX_CHARACTERS, f"characters in its values; the maximum is {MAX_CHARACTERS:,}. Search in parts."),
    ):
        if count > maximum:
            raise InputError(f"The filter has {count:,} {what}", param="where")


def _parse(condition: object, fields: Mapping[str, FieldType], depth: int) -> Filter:
    if depth > _MAX_DEPTH:
        raise InputError(f"The filter is nested deeper than {_MAX_DEPTH} levels.", param="where")
    if not isinstance(condition, Mapping):
        raise InputError(f"A filter is an object, not {type(condition).__name__}.", param="where")
    parts: list[Filter] = []
    for name, value in condition.items():
        if name in ("and", "or"):
            if not isinstance(value, (list, tuple)):
                raise InputError(f"{name!r} in a filter takes a list of filters.", param="where")
            inner = tuple(_parse(part, fields, depth + 1) for part in value)
            parts.append(All(inner) if name == "and" else Either(inner))
        elif name == "not":
            parts.append(Not(_parse(value, fields, depth + 1)))
        else:
            parts += _conditions(name, value, fields)
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _conditions(name: str, value: object, fields: Mapping[str, FieldType]) -> list[Filter]:
    if name not in fields:
        hint = nearest(name, fields)
        raise InputError(
            f"There is no field {name!r:.200} to filter by. {hint} Declare more in 'fields'.", param="where"
        )
    kind = fields[name]
    if not isinstance(value, Mapping):
        return [_in(name, value, kind) if isinstance(value, (list, tuple)) else _compare(name, "eq", value, kind)]
    unknown = next((op for op in value if op not in OPERATORS), None)
    if unknown is not None or not value:
        raise InputError(f"Filter on {name!r}: operator {unknown!r:.200}. {nearest(unknown, OPERATORS)}", param="where")
    return [_compare(name, op, operand, kind) for op, operand in value.items()]


def _compare(name: str, op: str, value: object, kind: FieldType) -> Filter:
    if op == "exists":
        if not isinstance(value, bool):
            raise InputError(f"Filter on {name!r}: exists takes true or false.", param="where")
        return Compare(name, "exists", True) if value else Not(Compare(name, "exists", True))
    if op in ("in", "nin"):
        condition = _in(name, value, kind)
        return condition if op == "in" else Not(condition)
    checked = typed(name, value, kind)
    if op == "ne":
        return Not(Compare(name, "eq", checked))
    if kind == "bool" and op != "eq":
        raise InputError(f"Filter on {name!r}: true and false have no order.", param="where")
    return Compare(name, op, checked)  # type: ignore[arg-type]


def _in(name: str, values: object, kind: FieldType) -> Filter:
    if not isinstance(values, (list, tuple)):
        raise InputError(f"Filter on {name!r}: in takes a list of values.", param="where")
    return Compare(name, "in", tuple(typed(name, value, kind) for value in values))


def typed(name: str, value: object, kind: FieldType) -> Value:
    """Return a value in the declared type of its field: whole numbers become floats, all others stay unchanged.

    Raises:
        InputError: the value is of another type, or a number that cannot be stored.
    """
    if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:
            return float(value)
    elif kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return value
    elif isinstance(value, TYPES[kind]) and kind in ("str", "bool") and _storable(str(value)):
        return value
    raise InputError(f"Field {name!r} has {_KINDS[kind]} as its value, and not {value!r:.60}.", param="where")


def _storable(text: str) -> bool:
    """Return whether all databases accept a text: without NUL and without lone surrogates."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def balanced(parts: Sequence[ExpressionT], join: Callable[[ExpressionT, ExpressionT], ExpressionT]) -> ExpressionT:
    """Join one or more expressions as a tree with the least number of levels.

    Databases parse a chain of n conditions as n levels: SQLite accepts a thousand, and others overflow their stack.
    """
    level = list(parts)
    while len(level) > 1:
        pairs = [join(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]


def matches(where: Filter | None, fields: Mapping[str, Any]) -> bool:
    """Return whether a record with these fields, including the built-in ones, matches a filter.

    A field whose value is a range of numbers meets a condition if one of the numbers does.
    """
    if where is None:
        return True
    if isinstance(where, All):
        return all(matches(part, fields) for part in where.parts)
    if isinstance(where, Either):
        return any(matches(part, fields) for part in where.parts)
    if isinstance(where, Not):
        return not matches(where.part, fields)
    value = fields.get(where.field)
    if value is None:
        return False
    if where.op == "exists":
        return True
    if isinstance(value, range):
        return any(_meets(where, number) for number in value)
    return _meets(where, value)


def _meets(where: Compare, value: Value) -> bool:
    if where.op == "in":
        return value in where.values
    return bool(_OPERATORS[where.op](value, where.value))

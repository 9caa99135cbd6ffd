"""The fields of ``Settings``: their types, limits, flags and descriptions, and conversion of values to these types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from nearfield.repeated_values import find_repeated
from nearfield.strict_json import parse_json
from nearfield.units import format_size, parse_size

#: A type hint, or one part of it; Python has no type for these.
TypeHint: TypeAlias = Any
#: The value of a setting; its field knows the type.
SettingValue: TypeAlias = Any

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


class ByteSize(int):
    """A number of bytes; as text it may have a unit, such as 8GiB."""


class Flag(NamedTuple):
    """The form of a setting on the command line, if its name and type do not determine it."""

    #: In place of ``--`` and the setting's name.
    name: str | None = None
    #: The setting is the command's arguments, not an option.
    argument: bool = False
    #: The flag takes no value and stands for this one.
    switch: str | None = None
    #: Each value of a flag that may be repeated may be a list separated by commas.
    commas: bool = False
    #: In place of the setting's description.
    help: str | None = None


@dataclass(frozen=True)
class SettingField:
    """One setting, as its annotation describes it."""

    name: str
    #: The type for msgspec, limits included.
    hint: TypeHint
    #: The type without limits and None: bool, int, float, str, ``Path``, ``ByteSize``, or the origin of a generic one.
    kind: TypeHint
    #: The arguments of a generic type: choices of a literal, types of keys and values.
    arguments: tuple[TypeHint, ...]
    default: SettingValue
    description: str
    #: The limits, from all of msgspec's metadata.
    metas: tuple[Meta, ...]
    flag: Flag

    @property
    def flag_name(self) -> str:
        """The flag, such as ``--api-key``, or the name of the arguments, in capitals."""
        if self.flag.argument:
            return self.name.upper()
        return self.flag.name or f"--{self.name.replace('_', '-')}"

    @property
    def flag_source(self) -> str:
        """The flag for messages about its value, such as ``flag --api-key``."""
        return f"{'argument' if self.flag.argument else 'flag'} {self.flag_name}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a setting may have, if they are listed."""
        return self.arguments if self.kind is Literal else ()

    @property
    def is_pairs(self) -> bool:
        """Whether the setting maps names to names, which may be written NAME=NAME."""
        return self.kind is dict and self.arguments[1] is str

    @property
    def default_text(self) -> str:
        """The default as it is written in a variable; empty for None and for an empty list."""
        if self.default is None:
            return ""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, ByteSize):
            return format_size(self.default)
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def limit(self, name: str) -> SettingValue:
        """Return a limit by msgspec's name for it (ge, gt, le, pattern, ...), or None."""
        return next((value for meta in self.metas if (value := getattr(meta, name)) is not None), None)

    def extra(self, name: str) -> SettingValue:
        """Return what the metadata's ``extra`` has under a name, or None."""
        return next((meta.extra[name] for meta in self.metas if meta.extra and name in meta.extra), None)


@lru_cache
def describe_fields(settings_class: type[msgspec.Struct]) -> tuple[SettingField, ...]:
    """Return the fields of a class of settings, in the order of their definition."""
    return tuple(_describe(info) for info in msgspec.structs.fields(settings_class))


def _describe(info: msgspec.structs.FieldInfo) -> SettingField:
    hint: Any = info.type
    metadata: tuple[object, ...] = ()
    while get_origin(hint) in (Annotated, Union, UnionType):
        if get_origin(hint) is Annotated:
            metadata += hint.__metadata__
            hint = hint.__origin__
        else:
            (hint,) = (option for option in get_args(hint) if option is not NoneType)
    metas = tuple(item for item in metadata if isinstance(item, Meta))
    return SettingField(
        name=info.name,
        hint=info.type,
        kind=get_origin(hint) or hint,
        arguments=get_args(hint),
        default=info.default_factory() if info.default is msgspec.NODEFAULT else info.default,
        description=next((meta.description for meta in metas if meta.description), ""),
        metas=metas,
        flag=next((item for item in metadata if isinstance(item, Flag)), Flag()),
    )


def convert(field: SettingField, value: object) -> SettingValue:
    """Return the value as the setting's type; text is parsed as that type, and as lists separated by commas.

    Raises:
        ValueError: the value is not allowed; the message says which values are.
    """
    parsed = _parse_text(field, value) if isinstance(value, str) else value
    if field.is_pairs and isinstance(parsed, (list, tuple)):
        parsed = _parse_pairs(parsed)
    elif field.kind in (int, ByteSize) and isinstance(parsed, float) and parsed.is_integer():
        parsed = int(parsed)
    try:
        converted = msgspec.convert(parsed, field.hint, strict=field.kind is not bool, dec_hook=_convert_other)
    except msgspec.ValidationError as error:
        raise ValueError(f"it must be {_expected(field)}.") from error
    if field.kind is ByteSize and converted is not None and converted < (field.extra("min_bytes") or 0):
        raise ValueError(f"it must be {_expected(field)}.")
    check = field.extra("check")
    if check is not None:
        check(converted)
    return converted


def _parse_text(field: SettingField, text: str) -> object:
    """Parse text from a variable or a flag; text that cannot be parsed is returned unchanged, to be refused later."""
    if field.kind is bool:
        word = text.strip().lower()
        return word in _TRUE if word in _TRUE | _FALSE else text
    if field.kind in (int, float):
        return _parse_number(text)
    if field.kind is tuple or (field.is_pairs and not text.lstrip().startswith("{")):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if field.kind is dict:
        try:
            return parse_json(text)
        except ValueError as error:
            raise ValueError(f"it is not valid JSON: {error}.") from error
    return text


def _parse_number(text: str) -> int | float | str:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def _parse_pairs(pairs: list[object] | tuple[object, ...]) -> dict[str, str]:
    texts = [str(pair) for pair in pairs if str(pair).strip()]
    parts = [text.partition("=") for text in texts]
    if any(not name.strip() or not model.strip() for name, _, model in parts):
        raise ValueError("write ALIAS=MODEL, such as text-embedding-3-small=bge-small.")
    repeated = find_repeated(name.strip() for name, _, _ in parts)
    if repeated is not None:
        raise ValueError(f"the alias {repeated!r} is there twice.")
    return {name.strip(): model.strip() for name, _, model in parts}


def _convert_other(kind: type, value: object) -> object:
    """Convert a value to a type that msgspec does not know: ``ByteSize`` or ``Path``."""
    if kind is not ByteSize:
        return kind(value)
    if value is False:
        return ByteSize(0)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("not a size")
    return ByteSize(parse_size(str(value)))


def _expected(field: SettingField) -> str:
    """Describe the values that a setting may have."""
    smallest = field.extra("min_bytes")
    words: Mapping[TypeHint, str] = {
        bool: "true or false",
        str: "text that is not empty" if field.limit("min_length") else "text",
        tuple: "a list of texts, or texts separated by commas",
        Path: "a path",
        ByteSize: "a size such as 512MB, 8GiB or 0"
        if not smallest
        else f"a size of at least {smallest} bytes, such as 32MiB",
        dict: "a table of texts" if field.is_pairs else "a table with one table per model",
        Literal: " or ".join(field.choices),
        int: "an integer" + _limits(field),
        float: "a number" + _limits(field),
    }
    expected: str = field.extra("expected") or words[field.kind]
    return expected


def _limits(field: SettingField) -> str:
    minimum, exclusive_minimum, maximum = (field.limit(name) for name in ("ge", "gt", "le"))
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if exclusive_minimum is not None:
        return f" greater than {exclusive_minimum}"
    return f" of at least {minimum}" if minimum is not None else ""

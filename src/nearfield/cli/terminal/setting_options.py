"""Command-line options from the fields of a class of settings: one option for each field."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from nearfield.setting_fields import SettingField


def with_options(command: Callable[..., None], fields: tuple[SettingField, ...]) -> Callable[..., None]:
    """Return a command with a parameter for each field, as typer reads them."""
    parameters = [_parameter(field) for field in fields]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def read_options(fields: tuple[SettingField, ...], options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the settings whose options are used; zeros are values: port 0 selects a free port."""
    for field in fields:
        value = options[field.name]
        if value is None or value is False or value in ([], ()):
            continue
        if field.flag.switch is not None:
            yield field.name, field.flag.switch
        else:
            yield field.name, ",".join(value) if field.flag.commas else value


def _parameter(field: SettingField) -> inspect.Parameter:
    kind, default = _option_type(field)
    text = _help_text(field)
    if field.flag.argument:
        information: Any = typer.Argument(help=text)
    else:
        information = typer.Option(field.flag_name, help=text, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, information]
    )


def _option_type(field: SettingField) -> tuple[Any, Any]:
    """Return the type of a setting's option, for typer, and the value that it has if it is not used."""
    if field.kind is bool or field.flag.switch is not None:
        return bool, False
    if field.kind is tuple or field.is_pairs:
        return list[str] | None, None
    return (field.kind if field.kind in (int, float, Path) else str) | None, None


def _help_text(field: SettingField) -> str:
    """Return the help of a setting's option: its description and its default."""
    text = field.flag.help or field.description
    if field.flag.argument or field.kind is bool or field.flag.switch is not None:
        return text
    if field.kind is tuple or field.is_pairs:
        return f"{text} May be repeated."
    return f"{text} [default: {field.default_text}]" if field.default not in (None, {}) else text

"""Reference: writes ``docs/reference.md`` from the code: commands, settings, models. A test fails when it is stale.

``python -m tools.reference`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from nearfield import catalog, families
from nearfield.cli import app
from nearfield.setting_fields import describe_fields
from nearfield.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"


def text() -> str:
    """Return the whole page."""
    parts = ["# Reference", "Written by `python -m tools.reference` from the code; a test holds it current."]
    parts += ["## Commands", *commands(get_command(app), "nearfield")]
    parts += ["## Settings", _SETTINGS, table(("name", "default", "meaning"), rows_of_settings())]
    parts += ["## Models", _MODELS, table(("model", "aliases", "size", "dims", "tokens", "licence"), rows_of_models())]
    return "\n\n".join(parts) + "\n"


_SETTINGS = (
    "Each is a key of `nearfield.toml`, a variable (`NEARFIELD_` and its name in capitals; lists separated by commas) "
    "and a flag of `nearfield serve`; the later wins. Beside them `NEARFIELD_CONFIG` names the settings file, "
    "`NEARFIELD_CACHE` the cache folder, and `NEARFIELD_OFFLINE=1` forbids the network."
)
_MODELS = (
    "Any other folder or Hub model of the same architectures loads by its own files. *dims* with more than one value: "
    "the model was trained to be cut. Licences marked * do not allow commercial use."
)


def commands(command: Any, name: str) -> Iterator[str]:
    """Yield a section for each command."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield f"### {name}\n\n{command.help}\n\n{table(('argument or option', 'meaning'), rows_of_options(command))}"
        shown = [line for line in (command.epilog or "").splitlines() if line.removeprefix("Example: ")]
        yield "```console\n" + "\n".join(f"$ {line}" for line in examples(shown)) + "\n```"
    for key, nested in inner.items():
        yield from commands(nested, f"{name} {key}")


def examples(lines: list[str]) -> list[str]:
    """Return those lines of a command's epilogue that can be typed."""
    bare = [line.removeprefix("Example: ") for line in lines]
    return [line for line in bare if "nearfield " in line and not line.endswith((".", ":"))]


def rows_of_options(command: Any) -> Iterator[tuple[str, ...]]:
    """Yield (names, meaning) for each argument and option."""
    for parameter in command.params:
        option = parameter.param_type_name == "option"
        names = ", ".join(f"`{name}`" for name in parameter.opts) if option else f"`{parameter.name.upper()}`"
        default = parameter.default
        told = f" [{default}]" if option and isinstance(default, (str, int, float)) and default else ""
        yield names, f"{parameter.help}{told if default is not True else ''}"


def rows_of_settings() -> Iterator[tuple[str, ...]]:
    """Yield (name, default, meaning) for each setting."""
    for field in describe_fields(Settings):
        yield f"`{field.name}`", field.default_text, field.description


def rows_of_models() -> Iterator[tuple[str, ...]]:
    """Yield a row for each model of the catalogue."""
    for entry in catalog.entries():
        size = f"{entry.parameters / 1e6:.0f}M" if entry.parameters else ""
        dims = ", ".join(map(str, sorted({entry.dimensions, *entry.matryoshka}, reverse=True)))
        licence = entry.licence + ("" if entry.commercial else " *")
        name = entry.id if entry.family in families.SHELF.names() else f"{entry.id} (not run by this version)"
        yield name, ", ".join(entry.aliases), size, dims, str(entry.max_length), licence


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in line) + " |" for line in lines
    )


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")

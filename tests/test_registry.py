"""The registry: names to classes, plugins, and what is said when one is missing."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

from nearfield import registry
from nearfield.errors import InputError, MissingExtra

ROWS = {
    "decoder": "json:JSONDecoder",
    "heavy": "no_such_package.heavy:Heavy",
    "bare": "no_such_package.bare:Bare",
    "broken": "nearfield.no_such_module:Broken",
}


@pytest.fixture
def made() -> registry.Registry:
    """A registry of one row that works and three that do not."""
    return registry.Registry("thing", ROWS, group="nearfield.things", extras={"heavy": "gpu", "broken": "gpu"})


def _install(monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, str]) -> None:
    points = tuple(EntryPoint(name, value, "nearfield.things") for name, value in rows)
    monkeypatch.setattr(
        registry, "_installed_points", lambda group, path: points if group == "nearfield.things" else ()
    )


def test_a_class_is_imported_when_it_is_asked_for(made: registry.Registry) -> None:
    assert made.names() == sorted(ROWS)
    assert made.load("decoder").__name__ == "JSONDecoder"


def test_an_unknown_name_names_the_nearest(made: registry.Registry) -> None:
    with pytest.raises(InputError, match=r"Unknown thing 'decodr'\. Did you mean 'decoder'") as caught:
        made.load("decodr")
    assert caught.value.param == "thing"


def test_a_missing_extra_names_its_pip_install(made: registry.Registry) -> None:
    with pytest.raises(MissingExtra, match=r"'heavy' needs 'no_such_package': pip install 'nearfield\[gpu\]'"):
        made.load("heavy")


@pytest.mark.parametrize("name", ["bare", "broken"])
def test_what_no_extra_brings_is_not_blamed_on_one(made: registry.Registry, name: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        made.load(name)
    assert not isinstance(caught.value, MissingExtra)


def test_a_plugin_is_a_row_like_ours(made: registry.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("theirs", "json:JSONEncoder"))
    assert "theirs" in made.names()
    assert made.load("theirs").__name__ == "JSONEncoder"
    with pytest.raises(InputError, match="Did you mean 'theirs'"):
        made.load("their")


def test_two_plugins_of_one_name_are_refused(made: registry.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("theirs", "json:JSONEncoder"), ("theirs", "json:JSONDecoder"))
    with pytest.raises(InputError, match="registered twice: json:JSONEncoder, json:JSONDecoder"):
        made.load("theirs")


def test_a_plugin_may_not_take_our_name(made: registry.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("decoder", "json:JSONEncoder"))
    with pytest.raises(InputError, match="registers thing 'decoder', which Nearfield has already"):
        made.names()
    assert made.load("decoder").__name__ == "JSONDecoder"


def test_plugins_are_read_once_for_an_import_path(
    made: registry.Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reading them takes a file of each installed package."""
    calls = []

    def counting(**options: Any) -> Any:
        calls.append(options)
        return entry_points(**options)

    monkeypatch.setattr(registry, "entry_points", counting)
    folder = tmp_path / "theirs-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[nearfield.things]\ntheirs = json:JSONEncoder\n")
    assert "theirs" not in made.names()
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in made.names() and made.load("theirs").__name__ == "JSONEncoder"
    assert made.names() == made.names() and len(calls) <= 2

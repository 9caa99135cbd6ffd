"""Settings: which source wins, and that nothing misspelt goes unnoticed."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest

from nearfield import settings
from nearfield.cli.serve import serve
from nearfield.errors import SettingsError
from tests.commands import python


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_safe() -> None:
    plain = settings.load()
    assert (plain.host, plain.port, plain.models) == ("127.0.0.1", 8080, ("all-MiniLM-L6-v2",))
    assert plain.api_keys == ()
    assert plain.cors_origins == ()


def test_flags_beat_the_environment_and_that_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nearfield.toml").write_text('host = "10.0.0.1"\nport = 1\nthreads = 3\n', encoding="utf-8")
    monkeypatch.setenv("NEARFIELD_PORT", "2")
    monkeypatch.setenv("NEARFIELD_THREADS", "4")
    loaded = settings.load(threads=5, host=None)
    assert (loaded.host, loaded.port, loaded.threads) == ("10.0.0.1", 2, 5)


def test_the_file_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('models = ["bge-small", "minilm"]\n', encoding="utf-8")
    monkeypatch.setenv("NEARFIELD_CONFIG", str(other))
    assert settings.load().models == ("bge-small", "minilm")
    monkeypatch.setenv("NEARFIELD_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        settings.load()


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_MODELS", "bge-small, minilm,")
    monkeypatch.setenv("NEARFIELD_API_KEYS", "one,two")
    loaded = settings.load()
    assert loaded.models == ("bge-small", "minilm")
    assert loaded.api_keys == ("one", "two")


def test_aliases_are_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = {"text-embedding-3-small": "bge-small", "mine": "./model=1"}
    assert settings.load(aliases=["text-embedding-3-small=bge-small", "mine = ./model=1"]).aliases == expected
    monkeypatch.setenv("NEARFIELD_ALIASES", "text-embedding-3-small=bge-small,mine=./model=1,")
    assert settings.load().aliases == expected
    (tmp_path / "nearfield.toml").write_text('[aliases]\nvoyage-3 = "bge-m3"\n', encoding="utf-8")
    monkeypatch.delenv("NEARFIELD_ALIASES")
    assert settings.load().aliases == {"voyage-3": "bge-m3"}
    for wrong in ("bge-small", "=bge-small", "mine="):
        with pytest.raises(SettingsError, match="ALIAS=MODEL"):
            settings.load(aliases=[wrong])


def test_the_environment_may_hold_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in settings.definition().model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        if default is not None:
            monkeypatch.setenv(f"NEARFIELD_{name.upper()}", str(default))
    assert settings.load() == settings.definition()()


def test_variables_read_elsewhere_are_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    assert settings.load().port == 8080
    assert settings.cache_dir() == tmp_path / "cache"


def test_an_unknown_key_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "nearfield.toml").write_text("prot = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"nearfield\.toml: unknown setting 'prot'. Did you mean 'port'"):
        settings.load()


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_PROT", "1")
    with pytest.raises(SettingsError, match=r"'NEARFIELD_PROT'\. Did you mean 'NEARFIELD_PORT'"):
        settings.load()


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'thread'\. Did you mean 'threads'"):
        settings.load(thread=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", "a"),
        ("port", 65536),
        ("precision", "fp8"),
        ("threads", 0),
        ("max_items", 0),
        ("request_timeout", 0),
        ("models", ()),
        ("models", " , "),
        ("host", ""),
        ("threads", ""),
        ("bulk_items", 1),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))):
        settings.load(**{name: value})


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "\x00"])
def test_a_broken_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "nearfield.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="not valid TOML"):
        settings.load()


def test_settings_stay_as_loaded() -> None:
    from pydantic import ValidationError

    loaded = settings.load()
    with pytest.raises(ValidationError, match="frozen"):
        loaded.port = 1


def test_every_setting_has_a_flag_and_a_meaning() -> None:
    fields = settings.definition().model_fields
    flags = inspect.signature(serve, eval_str=True).parameters
    assert set(flags) == set(fields)
    assert all(field.description for field in fields.values())


def test_the_help_tells_the_true_defaults() -> None:
    fields = settings.definition().model_fields
    for name, parameter in inspect.signature(serve, eval_str=True).parameters.items():
        told = re.search(r"\[(.*?)\]", parameter.annotation.__metadata__[0].help or "")
        default = fields[name].default
        if told and isinstance(default, (int, float)):
            said = told[1].split()
            number = float(said[0]) * (2**20 if said[1:] == ["MiB"] else 1)
            assert number == default, name
        elif told and isinstance(default, str):
            assert told[1] == default, name


def test_the_cache_folder_costs_no_pydantic() -> None:
    code = "import sys; from nearfield.settings import cache_dir; cache_dir(); print('pydantic' in sys.modules)"
    assert python(code) == "False"

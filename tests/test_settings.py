"""Settings: which source wins, that nothing misspelt goes unnoticed, and that one field is a whole setting."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from msgspec import Meta
from typer.main import get_command
from typer.testing import CliRunner

from nearfield import settings
from nearfield.cli import app
from nearfield.cli.serve import build_command
from nearfield.errors import SettingsError
from nearfield.setting_fields import Flag, convert, describe_fields
from nearfield.settings import Settings
from tests.support.cli_runner import python


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
    for field in describe_fields(Settings):
        if field.default is not None:
            monkeypatch.setenv(f"NEARFIELD_{field.name.upper()}", field.default_text)
    assert settings.load() == Settings()


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


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("8GiB", 8 * 2**30), ("8GB", 8 * 10**9), ("8g", 8 * 10**9), ("1.5 MiB", 3 * 2**19)],
)
def test_sizes_have_units(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("NEARFIELD_MEMORY_BUDGET", text)
    assert settings.load().memory_budget == settings.load(memory_budget=text).memory_budget == size
    assert settings.load(memory_budget=size).memory_budget == size


def test_every_number_of_bytes_may_have_a_unit() -> None:
    for field in describe_fields(settings.Settings):
        if field.name.endswith("_bytes"):
            assert convert(field, "2MiB") == 2 * 2**20, field.name
    assert settings.load(max_body_bytes=4096).max_body_bytes == 4096
    with pytest.raises(SettingsError, match="a size of at least 1024 bytes, such as 32MiB"):
        settings.load(max_body_bytes="10")


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1,5GiB", "8GiBs", "8 elephants", "1e30", "nan", "inf"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="it must be a size such as 512MB, 8GiB or 0"):
        settings.load(cache_disk=text)


def test_false_in_the_file_is_a_size_of_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nearfield.toml").write_text("cache_memory = false\n", encoding="utf-8")
    monkeypatch.setenv("NEARFIELD_CONFIG", str(tmp_path / "nearfield.toml"))
    assert settings.load().cache_memory == 0


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("YES", True), ("off", False), ("0", False)])
def test_switches_may_be_words(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("NEARFIELD_TEI_METRICS", text)
    assert settings.load().tei_metrics is value


def test_options_of_models_are_tables_or_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nearfield.toml").write_text('[model_settings."bge-m3"]\nmax_length = 1024\n', encoding="utf-8")
    assert settings.load().model_settings == {"bge-m3": {"max_length": 1024}}
    monkeypatch.setenv("NEARFIELD_MODEL_SETTINGS", '{"minilm": {"precision": "float32"}}')
    assert settings.load().model_settings == {"minilm": {"precision": "float32"}}
    for wrong, message in (
        ('{"minilm": {"max_lenth": 1}}', "minilm: unknown setting 'max_lenth'. Did you mean 'max_length'"),
        ('{"minilm": 1}', "a table with one table per model"),
        ("{minilm}", "not valid JSON"),
    ):
        with pytest.raises(SettingsError, match=re.escape(message)):
            settings.load(model_settings=wrong)


def test_an_error_names_the_source_of_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "nearfield.toml"
    file.write_text("port = 70000\n", encoding="utf-8")
    expected = "cannot be {}: it must be an integer from 0 to 65535."
    with pytest.raises(SettingsError) as raised:
        settings.load()
    assert str(raised.value) == "Setting 'port' (file nearfield.toml) " + expected.format("70000")
    monkeypatch.setenv("NEARFIELD_PORT", "http")
    with pytest.raises(SettingsError) as raised:
        settings.load()
    assert str(raised.value) == "Setting 'port' (variable NEARFIELD_PORT) " + expected.format("'http'")
    with pytest.raises(SettingsError) as raised:
        settings.load(port=-1)
    assert str(raised.value) == "Setting 'port' (flag --port) " + expected.format("-1")


def test_an_error_does_not_show_api_keys() -> None:
    with pytest.raises(SettingsError, match="'api_keys'") as raised:
        settings.load(api_keys=["nf-secret", 1])
    assert "nf-secret" not in str(raised.value)


def test_settings_stay_as_loaded() -> None:
    loaded = settings.load()
    with pytest.raises(AttributeError, match="immutable"):
        loaded.port = 1  # type: ignore[misc]


def test_every_setting_has_a_flag_and_a_meaning() -> None:
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    assert [parameter.name for parameter in serve.params if parameter.name != "help"] == list(
        Settings.__struct_fields__
    )
    assert all(field.description.endswith(".") for field in describe_fields(Settings))


class Extended(Settings, frozen=True, kw_only=True):
    """The settings and some that are not among them."""

    batch_delay: Annotated[float, Meta(ge=0, description="Delay of a batch.")] = 2.5
    lucky_numbers: Annotated[tuple[int, ...], Meta(description="Numbers."), Flag("--lucky-number")] = ()


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A command of those settings, and the settings that it serves with."""
    from nearfield.server.lifecycle import serve as run

    served: list[Any] = []
    monkeypatch.setattr(run, "serve", lambda settings, announce: served.append(settings))
    commands = typer.Typer()
    commands.command()(build_command(Extended))
    return commands, served


def test_a_field_is_a_flag_a_variable_and_a_key(
    extended: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command, served = extended
    invoke = CliRunner().invoke
    assert invoke(command, []).exit_code == 0
    (tmp_path / "nearfield.toml").write_text("batch_delay = 3\nlucky_numbers = [7]\n", encoding="utf-8")
    assert invoke(command, []).exit_code == 0
    monkeypatch.setenv("NEARFIELD_BATCH_DELAY", "4.5")
    assert invoke(command, []).exit_code == 0
    assert invoke(command, ["--batch-delay", "0"]).exit_code == 0
    assert [settings.batch_delay for settings in served] == [2.5, 3, 4.5, 0]
    assert [settings.lucky_numbers for settings in served] == [(), (7,), (7,), (7,)]
    refused = invoke(command, ["--batch-delay", "-1"])
    assert "(flag --batch-delay) cannot be -1.0: it must be a number of at least 0." in str(refused.exception)


def test_the_help_describes_a_field_and_its_default(extended: tuple[Any, list[Any]]) -> None:
    options: dict[Any, Any] = {parameter.name: parameter for parameter in get_command(extended[0]).params}
    assert options["batch_delay"].help == "Delay of a batch. [default: 2.5]"
    assert options["lucky_numbers"].opts == ["--lucky-number"]
    assert options["lucky_numbers"].help == "Numbers. May be repeated."
    assert options["cache_memory"].help.endswith("[default: 256MiB]")


@pytest.mark.process
def test_the_cache_folder_costs_no_pydantic() -> None:
    code = "import sys; from nearfield.settings import cache_dir; cache_dir(); print('pydantic' in sys.modules)"
    assert python(code) == "False"

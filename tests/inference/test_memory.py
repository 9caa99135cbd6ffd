"""Models and memory: what does not fit is refused before it is loaded, and memory that runs out is reported as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield import load
from nearfield.backends import openvino
from nearfield.bulk.embed import EmbedRequest, embed
from nearfield.engine.engine import Engine
from nearfield.errors import OutOfMemory
from nearfield.hardware import MemoryLimit
from nearfield.inference import loaded_model, uncompiled_model
from nearfield.server.lifecycle.model_loading import ModelLoader
from nearfield.settings import Settings
from nearfield.testing import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


def _limit(monkeypatch: pytest.MonkeyPatch, available: int, cause: str = "cgroup") -> None:
    limit = MemoryLimit(512 * 2**20, available, cause)
    for module in (uncompiled_model, openvino):
        monkeypatch.setattr(module, "memory_limit", lambda: limit)


@pytest.mark.parametrize(
    ("cause", "action"), [("cgroup", "limit of its container"), ("ulimit -v", "ulimit -v"), ("machine", "Close other")]
)
def test_a_model_that_does_not_fit_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cause: str, action: str
) -> None:
    size = (folder / "model.safetensors").stat().st_size
    _limit(monkeypatch, size, cause)
    with pytest.raises(OutOfMemory, match=f"tiny takes at least .* of 512 MiB are free .*{action}"):
        load(str(folder), precision="float32")
    _limit(monkeypatch, 2 * size, cause)
    load(str(folder), compile_cache=False).close()


@pytest.mark.parametrize(("share", "precision"), [(0.5, "int8"), (0.2, "int4")])
def test_a_model_that_does_not_fit_in_float_is_loaded_in_a_smaller_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float, precision: str
) -> None:
    size = (folder / "model.safetensors").stat().st_size
    _limit(monkeypatch, round(share * size))
    with load(str(folder), compile_cache=False) as model:
        assert model.precision == precision
        assert f"they are in {precision}" in model.recipe.warnings[-1] and model.recipe.warnings[-1] in caplog.text
        assert model.load_arguments()["precision"] == precision
    _limit(monkeypatch, round(0.1 * size))
    with pytest.raises(OutOfMemory, match=r"tiny takes at least .* in int4"):
        load(str(folder))


def test_a_smaller_precision_is_logged_once_by_the_server_and_by_embed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warnings: list[str] = []
    _limit(monkeypatch, (folder / "model.safetensors").stat().st_size // 2)
    engine = Engine(lanes=1)
    ModelLoader(Settings(), engine)(str(folder)).close()
    engine.close()
    (tmp_path / "texts.txt").write_text("one text\n", encoding="utf-8")
    embed(EmbedRequest([tmp_path / "texts.txt"], str(tmp_path / "out.npy"), str(folder)), on_warning=warnings.append)
    assert caplog.text.count("they are in int8") == 2 and not warnings


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError(), SystemError(), OSError(12, "Cannot allocate memory"), ValueError("bad array")],
)
def test_memory_that_runs_out_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def compile_model(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(loaded_model, "CompiledModel", compile_model)
    _limit(monkeypatch, 2**20)
    with pytest.raises(OutOfMemory, match=f"Memory ran out while tiny was loaded .{type(error).__name__}"):
        load(str(folder))
    _limit(monkeypatch, 2**40)
    with pytest.raises(OutOfMemory if isinstance(error, MemoryError) else type(error)):
        load(str(folder))


def test_a_compiled_model_is_saved_if_there_is_memory_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    _limit(monkeypatch, 2**20)
    load(str(folder)).close()
    assert "not saved for the next start: only 1 MiB" in caplog.text
    assert not list((tmp_path / "cache" / "compiled").glob("*.ov"))
    _limit(monkeypatch, 2**40)
    load(str(folder)).close()
    (blob,) = (tmp_path / "cache" / "compiled").glob("*.ov")
    size = blob.stat().st_size
    blob.write_bytes(bytes(size))
    monkeypatch.setattr(uncompiled_model, "_FLOAT_BYTES", 0.0)
    _limit(monkeypatch, size - 1)
    load(str(folder)).close()
    assert blob.is_file(), "memory may be what was missing"

"""The package: light to import, complete in its wheel, and working with nothing but its core dependencies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nearfield
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import python
from tests.support.paths import ROOT


def _loads(code: str, *names: str) -> str:
    """Return which of the modules some code loads, as printed by a fresh interpreter."""
    return python(f"import sys; {code}; print([name for name in {names} if name in sys.modules])")


@pytest.mark.process
def test_importing_it_costs_nothing() -> None:
    assert _loads("import nearfield", "numpy", "openvino", "pydantic", "torch") == "[]"


def test_all_is_sorted_and_importable() -> None:
    assert list(nearfield.__all__) == sorted(nearfield.__all__)
    assert dir(nearfield) == nearfield.__all__
    for name in nearfield.__all__:
        assert getattr(nearfield, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="encoder_"):
        nearfield.encoder_


def test_the_changelog_knows_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(nearfield.__version__)})\]", changes, re.M)


@pytest.mark.process
def test_openvino_s_telemetry_is_not_loaded(tmp_path: Path) -> None:
    """An import of OpenVINO would notify Google Analytics, except where CI is set, and leave files in the home."""
    code = "import sys, nearfield.backends.openvino; print([name for name in sys.modules if 'telemetry' in name])"
    told = {**os.environ, "HOME": str(tmp_path)}
    told.pop("CI", None)
    found = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True).stdout
    assert "openvino_telemetry" not in found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_encoder_brings_no_torch() -> None:
    assert _loads("from nearfield import Encoder", "torch", "transformers", "sentence_transformers") == "[]"


#: Modules that encoding does not need, and that take long to import or much memory.
HEAVY = (
    "datasets",
    "fsspec",
    "httpx",
    "huggingface_hub",
    "lancedb",
    "multiprocessing",
    "openai",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "sqlite3",
    "starlette",
    "torch",
    "transformers",
    "typer",
    "uvicorn",
)


@pytest.mark.process
def test_loading_a_folder_and_encoding_import_nothing_heavy(tmp_path: Path) -> None:
    folder = str(write_tiny_model(tmp_path / "tiny"))
    code = f"from nearfield import Encoder; Encoder({folder!r}, compile_cache=False).encode(['the cat'])"
    assert _loads(code, *HEAVY) == "[]"


PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
SHIPPED = [path for folder in ("src", "docs", "tools", "benchmarks") for path in (ROOT / folder).rglob("*")]


def test_no_page_names_a_place_on_our_machines() -> None:
    found = {}
    for path in (*PAGES, *SHIPPED):
        if path.is_file() and path.suffix in ("", ".md", ".py", ".toml", ".txt", ".json"):
            places = re.findall(r"(?<![\w.:/~])/(?:work|root|home/\w+|Users)/\S*", path.read_text(encoding="utf-8"))
            found.update({path.relative_to(ROOT).as_posix(): places} if places else {})
    assert not found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the backend that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.process
@pytest.mark.slow
def test_the_wheel_is_complete(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {path.relative_to(source).as_posix() for path in (source / "nearfield").rglob("*") if path.is_file()}
    assert {name for name in wanted if "__pycache__" not in name} <= inside
    assert {"nearfield/py.typed", "nearfield/cli/data/demo.txt", "nearfield/catalog/baai.toml"} <= inside
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)


@pytest.mark.process
@pytest.mark.slow
def test_the_installed_wheel_works_without_extras(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(home)]
    subprocess.run([*command, str(wheel)], check=True, timeout=120, capture_output=True)
    model = write_tiny_model(tmp_path / "tiny")
    done = subprocess.run(
        [sys.executable, "-c", _SMOKE, str(model)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(home / "nearfield" / "__init__.py"), "(2,", "32)"]


#: What the extras bring must not be needed: importing any of it fails here.
_SMOKE = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "pyarrow", "scipy", "openai", "pytest"):
    sys.modules[name] = None
import nearfield, nearfield.server.app, nearfield.bulk.file_job
vectors = nearfield.Encoder(sys.argv[1], compile_cache=False).encode(["the cat", "a dog"])
print(nearfield.__file__, vectors.data.shape)
"""

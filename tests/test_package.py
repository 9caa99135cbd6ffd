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
from tests.commands import python

ROOT = Path(__file__).resolve().parents[1]


def test_importing_it_costs_nothing() -> None:
    code = "import sys, nearfield; print([name for name in ('numpy', 'openvino', 'pydantic') if name in sys.modules])"
    assert python(code) == "[]"


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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the backend that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_is_complete(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {path.relative_to(source).as_posix() for path in (source / "nearfield").rglob("*") if path.is_file()}
    assert {name for name in wanted if "__pycache__" not in name} <= inside
    assert {"nearfield/py.typed", "nearfield/cli/demo.txt", "nearfield/catalog/baai.toml"} <= inside
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)


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
import nearfield, nearfield.server.app, nearfield.cli.vectors_file
vectors = nearfield.Encoder(sys.argv[1], compile_cache=False).encode(["the cat", "a dog"])
print(nearfield.__file__, vectors.data.shape)
"""

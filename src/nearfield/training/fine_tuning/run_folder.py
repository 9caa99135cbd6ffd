"""`RunFolder`: what a run has done so far, each step in one file, so that the same command continues after a kill.

``plan.json`` says what the run is about: digests of data and base, settings, versions. A run with another plan is
refused. Every other file holds the result of a step, and is written in one piece.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nearfield import __version__
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.atomic import write_atomic

#: The format of the files; another number is another run.
FORMAT = 1
_LIBRARIES = ("torch", "transformers", "sentence-transformers", "peft", "tokenizers", "numpy")


class RunFolder:
    """The folder of a run.

    Args:
        path: it is created if it is not there.

    Raises:
        InputError: the path is a file, or a folder with something else in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not _is_run_folder(path):
            raise InputError(f"{path} is there already and is no folder of a training run.", param="output")
        path.mkdir(parents=True, exist_ok=True)

    def bind(self, plan: JsonDict) -> bool:
        """Write the plan, or check that it is the one of this folder; return whether the run continues.

        Raises:
            InputError: the folder is of a run with other data, another base or other settings.
        """
        plan = json.loads(json.dumps({"format": FORMAT, **plan}))
        before = self.read("plan")
        if before is None:
            self.write("plan", plan)
            return False
        changed = _differences(before, plan)
        if changed:
            raise InputError(
                f"{self.path} is of another run ({', '.join(changed)}). Continue with the same data and settings, "
                "name another output, or remove this folder to begin again.",
                param="output",
            )
        return True

    def read(self, name: str) -> JsonDict | None:
        """Return the result of a step; None if it has not been done.

        Raises:
            InputError: its file is damaged.
        """
        path = self.path / f"{name}.json"
        if not path.is_file():
            return None
        try:
            values: JsonDict = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{path} is damaged ({error}). Remove {self.path} to begin again, or name another output.",
                param="output",
            ) from error
        return values

    def write(self, name: str, values: JsonDict) -> None:
        """Write the result of a step in one piece."""
        write_atomic(self.path / f"{name}.json", json.dumps(values, ensure_ascii=False, indent=1))

    def step(self, name: str, compute: Callable[[], JsonDict]) -> JsonDict:
        """Return the result of a step, computed and written if it has not been done."""
        known = self.read(name)
        if known is not None:
            return known
        values = compute()
        self.write(name, values)
        return values


def _is_run_folder(path: Path) -> bool:
    """Return whether a run may work in a folder: it has one already, or has nothing, or a plan was being written."""
    if not path.is_dir():
        return False
    names = {inner.name for inner in path.iterdir()}
    return "plan.json" in names or names <= {".plan.json.partial"}


def library_versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    versions = {"nearfield": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _differences(before: JsonDict, now: JsonDict, place: str = "") -> list[str]:
    """Return the names of what differs, such as ``options.rate 2e-05 → 5e-05``."""
    names = []
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += _differences(old, new, f"{place}{name}.")
        elif old != new:
            shown = "" if len(f"{old}{new}") > 60 else f" {old} → {new}"
            names.append(f"{place}{name}{shown}")
    return names

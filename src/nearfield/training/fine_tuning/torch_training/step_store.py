"""Checkpoints of a run: folders ``step-N`` that are whole, because they get that name after everything is written.

A trainer writes ``checkpoint-N``, which is renamed. What a killed process left under that name is removed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from nearfield.evaluation.json_types import JsonDict

_WRITING, _WHOLE = "checkpoint-", "step-"
CURVE_FILE = "curve.json"


class StepStore:
    """The checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def remove_partial(self) -> None:
        """Remove what was being written when a process ended."""
        for path in self.folder.glob(f"{_WRITING}*"):
            shutil.rmtree(path)

    def newest(self) -> Path | None:
        """Return the newest whole checkpoint."""
        return max(self._whole(), key=_number, default=None)

    def finish(self, step: int) -> Path:
        """Give a written checkpoint its name, and remove older ones."""
        path = self.folder / f"{_WHOLE}{step}"
        if path.exists():
            self._remove(path)
        (self.folder / f"{_WRITING}{step}").rename(path)
        for old in sorted(self._whole(), key=_number)[:-1]:
            self._remove(old)
        return path

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint. The name goes first: a folder that is removed in part must not look whole."""
        leaving = self.folder / f"{_WRITING}old-{_number(path)}"
        path.rename(leaving)
        shutil.rmtree(leaving)

    def _whole(self) -> list[Path]:
        return list(self.folder.glob(f"{_WHOLE}*"))


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def read_curve(step: Path) -> JsonDict:
    """Return the curve that a checkpoint contains."""
    values: JsonDict = json.loads((step / CURVE_FILE).read_text(encoding="utf-8"))
    return values

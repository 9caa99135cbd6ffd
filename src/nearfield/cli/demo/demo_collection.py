"""``DemoPlan``: the models and the definition of the media demo's collection, and the searches that find its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nearfield.cli.demo import finds
from nearfield.cli.demo.computed_models import write_pixel_model, write_spectrum_model
from nearfield.cli.demo.demo_files import FILM, SCAN, SPEECH, DemoFiles
from nearfield.cli.demo.finds import Find
from nearfield.hub import is_path

#: Words in the scan with their pages, and words that are spoken.
_SCANNED = (("lighthouse key", 1), ("bicycles on the ferry", 2))
_SPOKEN = (("umbrella in the cloakroom", None),)


@dataclass(frozen=True)
class DemoModel:
    """A model of the demo. ``is_computed`` says that its weights are cosines, so that it understands nothing."""

    name: str
    is_computed: bool
    compares: str

    @property
    def means(self) -> str:
        """How it compares examples, for people."""
        return f"example: {self.compares}"


@dataclass(frozen=True)
class DemoOptions:
    """Models with weights: names or folders, None for those of this machine's cache."""

    image_model: str | None = None
    audio_model: str | None = None
    speech_model: str | None = None


class DemoPlan:
    """The definition of the collection, and its searches.

    Args:
        home: the folder of the demo; models are computed into it.
        files: what is indexed.
        options: models with weights.
    """

    def __init__(self, home: Path, files: DemoFiles, options: DemoOptions) -> None:
        self._home, self._files, self._options = home, files, options

    @cached_property
    def picture(self) -> DemoModel:
        """The model of pictures, pages and videos."""
        name = self._options.image_model or _cached_model("image")
        if name is None:
            return DemoModel(str(write_pixel_model(self._home / "models" / "pixels")), True, "pixels")
        return DemoModel(_absolute(name), False, name)

    @cached_property
    def sound(self) -> DemoModel:
        """The model of sounds."""
        name = self._options.audio_model or _cached_model("audio")
        if name is None:
            return DemoModel(str(write_spectrum_model(self._home / "models" / "spectra")), True, "spectra")
        return DemoModel(_absolute(name), False, name)

    @property
    def computed(self) -> set[str]:
        """The names of models whose weights are computed."""
        return {model.name for model in (self.picture, self.sound) if model.is_computed}

    @property
    def notes(self) -> list[str]:
        """What the collection cannot do, and how to change it."""
        without = "has no weights that were trained: it compares {} and understands nothing. For searches by words: {}"
        picture = without.format("the lowest frequencies of pixels", "--image-model openai/clip-vit-base-patch32")
        sound = without.format("the shapes of spectra", "--audio-model laion/clap-htsat-unfused")
        return [
            *([f"The model of pictures {picture}"] if self.picture.is_computed else []),
            *([f"The model of sounds {sound}"] if self._files.sounds and self.sound.is_computed else []),
        ]

    def definition(self) -> dict[str, Any]:
        """Return the definition of the collection."""
        features = {"picture": {"model": self.picture.name, "reads": ["image", "page", "video"]}}
        if self._files.sounds:
            features["sound"] = {"model": self.sound.name, "reads": ["audio"]}
        return {
            "features": features,
            # A chunk for each page of the scan.
            "chunks": {"tokens": 32, "overlap": 0},
            "segments": {"video": {"split_method": "scene", "fps": 2}},
            "ocr": self._files.has_ocr,
            "speech": self._options.speech_model if self._files.has_speech else False,
        }

    def finds(self) -> Iterator[Find]:
        """Yield the searches: by words where a model or a text has them, and by example."""
        files, picture, sound = self._files, self.picture, self.sound
        film, scan = files.folder / FILM, files.folder / SCAN
        if not picture.is_computed:
            yield from finds.by_words(files.pictures.items(), f"words: {picture.compares}")
            yield from finds.by_scenes(film, f"words: {picture.compares}") if files.has_film else ()
        if files.sounds and not sound.is_computed:
            yield from finds.by_words(files.sounds.items(), f"words: {sound.compares}")
        yield from finds.by_keywords(_SCANNED, "words: OCR", SCAN) if files.has_ocr else ()
        yield from finds.by_keywords(_SPOKEN, "words: speech", SPEECH) if files.has_speech else ()
        yield from finds.by_copies(files.paths(files.pictures), picture.means)
        yield from finds.by_pages(scan, picture.means)
        yield from finds.by_frames(film, picture.means) if files.has_film else ()
        yield from finds.by_parts(files.paths(files.sounds), sound.means)


def _absolute(name: str) -> str:
    return str(Path(name).expanduser().absolute()) if is_path(name) or Path(name).is_dir() else name


def _cached_model(kind: str) -> str | None:
    """Return a model of the catalogue that reads texts and a kind, and is in the cache of this machine."""
    from nearfield.catalog import entries
    from nearfield.hub import cached_models

    cached = {model.name for model in cached_models()}
    fitting = (entry for entry in entries() if entry.commercial and {"text", kind} <= set(entry.reads))
    return next((entry.id for entry in fitting if entry.id in cached), None)

"""The collection of the media demo: its files, its models, and the searches that should find the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nearfield.cli.demo import finds
from nearfield.cli.demo.computed_models import write_pixel_model, write_spectrum_model
from nearfield.cli.demo.finds import Find
from nearfield.cli.demo.generated_media import SOUNDS, write_film, write_sounds
from nearfield.cli.demo.samples import EXTRA, SPEAKER, ShippedFile, copy_shipped, speak, write_scan
from nearfield.hub import is_path

FILM, SCAN, SPEECH = "scenes.mp4", "scan.pdf", "spoken.wav"
#: Ends of the names of sounds.
_SOUND = ".wav"
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


class DemoFiles:
    """The files of the demo in a folder, and what could not be written there."""

    def __init__(self, folder: Path, options: DemoOptions) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.shipped, packages = copy_shipped(folder)
        self.missing = [f"the files of {name}: pip install {name}" for name in packages]
        write_scan(folder / SCAN)
        self.has_film = self._has("av", "a video")
        if self.has_film:
            write_film(folder / FILM)
        self.has_sounds = self._has("soundfile", "sounds")
        if self.has_sounds and not any(_is_sound(file) for file in self.shipped):
            write_sounds(folder)
        self.has_ocr = self._has("rapidocr", "words in the scan")
        self.has_speech = self._speak(options.speech_model)

    def _has(self, module: str, what: str) -> bool:
        """Return whether a module is installed; otherwise record what is missing."""
        if find_spec(module) is None:
            self.missing.append(f"{what}: {EXTRA}")
            return False
        return True

    def _speak(self, model: str | None) -> bool:
        """Write the spoken file if it can be recognised; return whether it is there."""
        if model is None:
            self.missing.append("words in a spoken file: pip install 'nearfield[speech]', and --speech-model base")
            return False
        if not speak(self.folder / SPEECH):
            self.missing.append(f"a spoken file: install {SPEAKER}")
            return False
        return True

    @property
    def pictures(self) -> list[Path]:
        """The pictures."""
        return [self.folder / file.name for file in self.shipped if not _is_sound(file)]

    @property
    def sounds(self) -> list[Path]:
        """The sounds, without the spoken file."""
        return sorted(path for path in self.folder.glob(f"*{_SOUND}") if path.name != SPEECH)

    @property
    def picture_words(self) -> list[tuple[str, str]]:
        """The names of pictures and words that describe them."""
        return [(file.name, file.words) for file in self.shipped if not _is_sound(file)]

    @property
    def sound_words(self) -> list[tuple[str, str]]:
        """The names of sounds and words that describe them."""
        shipped = {file.name: file.words for file in self.shipped}
        return [(path.name, shipped.get(path.name) or SOUNDS[path.name][0]) for path in self.sounds]


def _is_sound(file: ShippedFile) -> bool:
    return file.name.endswith(_SOUND)


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
            *([f"The model of sounds {sound}"] if self._files.has_sounds and self.sound.is_computed else []),
        ]

    def definition(self) -> dict[str, Any]:
        """Return the definition of the collection."""
        features = {"picture": {"model": self.picture.name, "reads": ["image", "page", "video"]}}
        if self._files.has_sounds:
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
            yield from finds.by_words(files.picture_words, f"words: {picture.compares}")
            yield from finds.by_scenes(film, f"words: {picture.compares}") if files.has_film else ()
        if files.has_sounds and not sound.is_computed:
            yield from finds.by_words(files.sound_words, f"words: {sound.compares}")
        yield from finds.by_keywords(_SCANNED, "words: OCR", SCAN) if files.has_ocr else ()
        yield from finds.by_keywords(_SPOKEN, "words: speech", SPEECH) if files.has_speech else ()
        yield from finds.by_copies(files.pictures, picture.means)
        yield from finds.by_pages(scan, picture.means)
        yield from finds.by_frames(film, picture.means) if files.has_film else ()
        yield from finds.by_parts(files.sounds, sound.means) if files.has_sounds else ()


def _absolute(name: str) -> str:
    return str(Path(name).expanduser().absolute()) if is_path(name) or Path(name).is_dir() else name


def _cached_model(kind: str) -> str | None:
    """Return a model of the catalogue that reads texts and a kind, and is in the cache of this machine."""
    from nearfield.catalog import entries
    from nearfield.hub import cached_models

    cached = {model.name for model in cached_models()}
    return next((entry.id for entry in entries() if entry.id in cached and {"text", kind} <= set(entry.reads)), None)

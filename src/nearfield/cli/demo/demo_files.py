"""``DemoFiles``: the files that the media demo indexes, as far as this machine can write and read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nearfield.cli.demo.generated_media import SOUNDS, write_film, write_sounds
from nearfield.cli.demo.samples import EXTRA, SPEAKER, copy_shipped, speak, write_scan

FILM, SCAN, SPEECH = "scenes.mp4", "scan.pdf", "spoken.wav"
#: Modules without which a part of the demo is left out, and what that part is.
_NEEDED: Mapping[str, str] = {"av": "a video", "soundfile": "sounds", "rapidocr": "words in the scan"}
_SOUND_SUFFIX = ".wav"


@dataclass(frozen=True)
class DemoFiles:
    """The files in a folder; a scan is always among them.

    Args:
        folder: where they are.
        pictures: words that describe each picture, by the name of its file.
        sounds: the same of sounds; none if sounds cannot be read.
        has_film: whether there is a video.
        has_ocr: whether the words of the scan can be read.
        has_speech: whether there is a spoken file.
        missing: what is not there, each with what to install.
    """

    folder: Path
    pictures: Mapping[str, str]
    sounds: Mapping[str, str]
    has_film: bool
    has_ocr: bool
    has_speech: bool
    missing: Sequence[str]

    def paths(self, names: Mapping[str, str]) -> list[Path]:
        """Return the paths of files."""
        return [self.folder / name for name in names]


def write_files(folder: Path, speech_model: str | None) -> DemoFiles:
    """Write the files into a folder; a spoken one only if there is a model that recognises it."""
    folder.mkdir(parents=True, exist_ok=True)
    words, packages = copy_shipped(folder)
    absent = {module for module in _NEEDED if find_spec(module) is None}
    write_scan(folder / SCAN)
    if "av" not in absent:
        write_film(folder / FILM)
    reason = "--speech-model base, with pip install 'nearfield[speech]'" if speech_model is None else ""
    if not reason and not speak(folder / SPEECH):
        reason = f"install {SPEAKER}"
    return DemoFiles(
        folder,
        pictures={name: text for name, text in words.items() if not name.endswith(_SOUND_SUFFIX)},
        sounds={} if "soundfile" in absent else _sounds(folder, words),
        has_film="av" not in absent,
        has_ocr="rapidocr" not in absent,
        has_speech=not reason,
        missing=(
            *(f"the files of {name}: pip install {name}" for name in packages),
            *(f"{_NEEDED[module]}: {EXTRA}" for module in sorted(absent)),
            *([f"words in a spoken file: {reason}"] if reason else []),
        ),
    )


def _sounds(folder: Path, words: Mapping[str, str]) -> dict[str, str]:
    """Return the sounds of packages with their words; where there are none, write computed ones."""
    shipped = {name: text for name, text in words.items() if name.endswith(_SOUND_SUFFIX)}
    if shipped:
        return shipped
    write_sounds(folder)
    return {name: text for name, (text, _) in SOUNDS.items()}

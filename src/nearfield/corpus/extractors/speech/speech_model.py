"""The model of speech recognition: a folder of a Whisper model in CTranslate2's format, here or from the Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nearfield.corpus.extractors.options import SpeechMode
from nearfield.errors import InputError, nearest
from nearfield.hub import existing_path, is_path, locate

#: The model of ``speech = true``: 145 MB, 99 languages.
DEFAULT_MODEL = "base"
#: Short names of models, and their ids on the Hub.
SPEECH_MODELS = {
    **{
        name: f"Systran/faster-whisper-{name}"
        for name in (
            *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
            *("large-v2", "large-v3"),
        )
    },
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
#: Files that a folder must have. Without the tokenizer, the library would download one.
_WEIGHTS = "model.bin"
_FILES = (_WEIGHTS, "config.json", "tokenizer.json")
#: Bytes at the start and at the end of the weights that are in the identity of a model.
_SAMPLED_BYTES = 2**20


def locate_speech_model(mode: SpeechMode, *, progress: bool = False) -> Path:
    """Return the folder of a model: ``True`` stands for the default one; it is downloaded if it is not here.

    Raises:
        InputError: there is no such name, or the folder lacks a file.
        ModelNotFound, SourceUnavailable: the Hub does not have it, cannot be reached, or may not be asked.
    """
    name = DEFAULT_MODEL if mode is True or mode is False else mode
    path = existing_path(name)
    if path is not None and path.is_dir():
        return _checked(path.resolve())
    if name not in SPEECH_MODELS and not is_path(name) and "/" not in name:
        raise InputError(
            f"There is no speech model {name!r}. {nearest(name, SPEECH_MODELS)} A folder and an id on the Hub are "
            "possible too.",
            param="speech",
        )
    if is_path(name):
        raise InputError(f"There is no folder {name!r} with a speech model.", param="speech")
    return _checked(locate(SPEECH_MODELS.get(name, name), progress=progress, files=_FILES).folder)


def _checked(folder: Path) -> Path:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is no speech model: it has no {' and no '.join(missing)}. A Whisper model in CTranslate2's "
            "format is needed (ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json).",
            param="speech",
        )
    return folder


def model_bytes(folder: Path) -> int:
    """Return the size of a model's weights."""
    return (folder / _WEIGHTS).stat().st_size


def model_identity(folder: Path) -> str:
    """Return a digest that changes with the model: of its configuration, and of size, start and end of its weights."""
    digest = hashlib.sha256()
    for name in _FILES[1:]:
        digest.update((folder / name).read_bytes())
    size = model_bytes(folder)
    digest.update(str(size).encode())
    with (folder / _WEIGHTS).open("rb") as file:
        digest.update(file.read(_SAMPLED_BYTES))
        file.seek(max(0, size - _SAMPLED_BYTES))
        digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()

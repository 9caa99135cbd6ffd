"""Speech recognition (extra ``speech``): what is said in sounds and videos, by Whisper on CTranslate2.

``speech_model.py`` finds the model's folder, ``sound_blocks.py`` decodes a file in blocks, ``transcriber.py``
recognises what is said in a block, ``guards.py`` leaves out what was probably not said, and ``transcript.py`` joins
them for extractors, with the cache of recognised blocks.
"""

from __future__ import annotations

from importlib.util import find_spec

from nearfield.errors import MissingExtra

_MODULES = ("faster_whisper", "av")


def require_speech(name: str = "") -> None:
    """Raise MissingExtra, with the ``name`` of the file that needs them, if packages of the extra are missing."""
    missing = next((module for module in _MODULES if find_spec(module) is None), None)
    if missing is not None:
        subject = f"{name}: a transcript" if name else "Transcripts"
        verb = "needs" if name else "need"
        raise MissingExtra(f"{subject} {verb} {missing!r}: pip install 'nearfield[speech]'")

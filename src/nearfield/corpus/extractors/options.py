"""``ExtractionOptions``: the settings of a collection that extractors read, and the modes of OCR and of speech."""

from __future__ import annotations

from typing import Literal

import msgspec

#: False: no OCR. True: pictures and pages without text. "damaged": also pages with text that looks damaged.
OcrMode = bool | Literal["damaged"]
#: False: what is said in sounds and videos is not read. True: by the default model. A text: by that model.
SpeechMode = bool | str


class ExtractionOptions(msgspec.Struct, frozen=True):
    """Options of the extraction of one document. They are sent to the worker process as JSON.

    ``ocr_cache`` is the path of the database of recognised pages (``recognition_cache``); empty for none. ``media`` are
    the kinds of media that searches find beside the text: a file with those may be without text. ``speech`` is the
    folder of the model that recognises speech; empty for none. ``speech_cache`` is the database of its blocks, and
    ``language`` the code of what is spoken; empty to recognise it.
    """

    ocr: OcrMode = False
    ocr_cache: str = ""
    media: tuple[str, ...] = ()
    speech: str = ""
    speech_cache: str = ""
    language: str = ""

"""``ExtractionOptions``: the settings of a collection that extractors read, and the OCR modes."""

from __future__ import annotations

from typing import Literal

import msgspec

#: False: no OCR. True: pictures and pages without text. "damaged": also pages with text that looks damaged.
OcrMode = bool | Literal["damaged"]


class ExtractionOptions(msgspec.Struct, frozen=True):
    """Options of the extraction of one document. They are sent to the worker process as JSON.

    ``ocr_cache`` is the path of the database of recognised pages (``ocr.cache``); empty for none. ``media`` are the
    kinds of media that searches find beside the text, image and page: a file with those may be without text.
    """

    ocr: OcrMode = False
    ocr_cache: str = ""
    media: tuple[str, ...] = ()

"""Optical character recognition (extra ``ocr``): the text of pictures and of scanned pages, by rapidocr on OpenVINO.

``engine.py`` recognises the lines of a picture, ``layout.py`` orders them into paragraphs, ``recognition_cache.py``
beside this folder stores the results by the content of the page, and ``page_reader.py`` joins the three for extractors.
The models are files of the package rapidocr; nothing is downloaded.
"""

from __future__ import annotations

from importlib.util import find_spec

from nearfield.errors import MissingExtra

#: The scripts that the models read, for messages.
SCRIPTS = "Latin, Chinese and Japanese"
_MODULES = ("rapidocr", "cv2", "PIL")


def require_ocr(name: str = "") -> None:
    """Raise MissingExtra, with the ``name`` of the file that needs it, if the packages of the extra are missing."""
    missing = next((module for module in _MODULES if find_spec(module) is None), None)
    if missing is not None:
        subject = f"{name}: reading it" if name else "OCR"
        raise MissingExtra(f"{subject} needs {missing!r}: pip install 'nearfield[ocr]'")

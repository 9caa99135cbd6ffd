"""Words that a reader of a file would see, counted without an extractor of this project or of those that it compares.

PDF: ``pdftotext`` (poppler). Office and OpenDocument: all text nodes of the parts with content. Web pages are left out:
which of their parts are content is a matter of choice.
"""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

#: Parts of archives with content, and the elements whose text is shown.
_PARTS = {
    "docx": (r"word/(document|footnotes|endnotes|comments|header\d*|footer\d*)\.xml", "t"),
    "pptx": (r"ppt/(slides/slide|notesSlides/notesSlide)\d+\.xml", "t"),
    "xlsx": (r"xl/(sharedStrings|worksheets/sheet\d+)\.xml", "t"),
    "odt": (r"content\.xml", "p h"),
}
#: Second versions of drawings, and deleted text.
_SECOND = "//*[local-name()='Fallback' or local-name()='del' or local-name()='moveFrom']"
#: Elements that begin on another line.
_BREAKS = ("p", "h", "br", "tab", "si", "c", "tc")


def visible_text(path: Path) -> str:
    """Return the text of a file, in any order; an empty string if its type is not known or it is damaged."""
    suffix = path.suffix.lstrip(".").lower()
    if suffix == "pdf":
        done = subprocess.run(
            ["pdftotext", "-enc", "UTF-8", str(path), "-"], capture_output=True, check=False, timeout=60
        )
        return done.stdout.decode("utf-8", "replace")
    if suffix in _PARTS:
        return "".join(_archive_text(path.read_bytes(), *_PARTS[suffix]))
    return ""


def _archive_text(data: bytes, pattern: str, names: str) -> Iterator[str]:
    from lxml import etree

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            parts = [file.read(name) for name in file.namelist() if re.fullmatch(pattern, name)]
    except (zipfile.BadZipFile, RuntimeError):
        return
    shown = names.split()
    for part in parts:
        root = etree.fromstring(part)
        for element in root.xpath(_SECOND):
            element.getparent().remove(element)
        for element in root.iter():
            name = etree.QName(element) if isinstance(element.tag, str) else None
            if name is None:
                continue
            yield "\n" if name.localname in _BREAKS or "/math" in (name.namespace or "") else ""
            if name.localname in shown:
                yield "".join(element.itertext())

"""Pages of PDF files as pictures: PDFium renders them in a child process, one at a time, when they are read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra
from nearfield.media.decoder_process.pool import DecoderJob, run_decoder
from nearfield.media.decoding import Picture, encode_png
from nearfield.media.files import file_in_memory, open_regular_file
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits

#: Dots per inch of a rendered page, and the most pixels of its longer side: fine print stays readable.
RESOLUTION, MAX_SIDE = 150, 2048
#: Bytes of the largest file; bytes that the process may take, and its seconds for the list of pages or for one page.
MAX_BYTES, _MEMORY, _SECONDS = 2**31, 2**30, 60.0
#: Pages of a file at most.
MAX_PAGES = 50_000


class PdfPageImage(Image):
    """A page of a PDF file as a picture. It is rendered when it is read: no page is in memory before.

    Args:
        source: the path of the file, or its bytes.
        page: the number of the page, from 1.
        passwords: passwords to try, if the file has one.
    """

    __slots__ = ("_page", "_passwords")

    def __init__(self, source: Path | bytes, page: int, passwords: Sequence[str] = ()) -> None:
        super().__init__(source)
        self._page, self._passwords = page, tuple(passwords)

    @property
    def name(self) -> str:
        """What messages call it: the path of its file and the page."""
        file = str(self._source) if isinstance(self._source, Path) else "The PDF file"
        return f"{file}, page {self._page}"

    def read(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> Picture:
        """Return the rendered page.

        Raises:
            InputError: the file or the page is damaged, or has another password.
            MissingExtra: pypdfium2 is not installed.
        """
        side = min(MAX_SIDE, limits.max_side, int(limits.max_pixels**0.5))
        options = {"page": self._page, "passwords": list(self._passwords), "side": side, "name": self.name}
        with _open(self._source) as file:
            result = run_decoder(DecoderJob("pdf page", self.name, options, _MEMORY, _SECONDS), file)
        (pixels,) = result.arrays
        content = hashlib.sha256(f"page {pixels.shape} ".encode())
        content.update(pixels.data)
        return Picture(pixels, pixels.shape[1], pixels.shape[0], "PDF", content.digest())

    def to_file(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> bytes:
        """Return the rendered page as the bytes of a PNG file; raises as ``read`` does."""
        return encode_png(self.read(limits))

    def __repr__(self) -> str:
        return f"PdfPageImage({self.name!r})"


def page_sizes(source: Path | bytes, name: str, passwords: Sequence[str] = ()) -> Array:
    """Return width and height in pixels of each page of a PDF file as it is rendered, int64 [pages, 2].

    Raises:
        InputError: the file is damaged, or has another password or too many pages.
        MissingExtra: pypdfium2 is not installed.
    """
    options = {"passwords": list(passwords), "name": name}
    with _open(source) as file:
        return run_decoder(DecoderJob("pdf header", name, options, _MEMORY, _SECONDS), file).arrays[0]


def _open(source: Path | bytes) -> AbstractContextManager[BinaryIO]:
    return closing(file_in_memory(source)) if isinstance(source, bytes) else open_regular_file(source, MAX_BYTES)


# -- in the child process ----------------------------------------------------------------------------------------------


def read_pages_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return the sizes of all pages: what the child process does for ``page_sizes``."""
    with closing(_document(file, options)) as document:
        count = len(document)
        if count > MAX_PAGES:
            raise InputError(f"{options['name']} has {count:,} pages. At most {MAX_PAGES:,} are read.")
        sizes = [_pixels(*_page_size(document, number)) for number in range(count)]
        return {}, [np.array(sizes, np.int64).reshape(-1, 2)]


def render_page_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return the pixels of a page, uint8 [height, width, 3]: what the child process does for ``PdfPageImage.read``."""
    from pypdfium2 import PdfiumError

    with closing(_document(file, options)) as document:
        try:
            with closing(document[options["page"] - 1]) as page:
                width, height = _pixels(page.get_width(), page.get_height(), options["side"])
                scale = min(width / max(page.get_width(), 1.0), height / max(page.get_height(), 1.0))
                with closing(page.render(scale=scale, rev_byteorder=True)) as bitmap:
                    return {}, [np.ascontiguousarray(bitmap.to_numpy()[..., :3])]
        except (PdfiumError, IndexError) as error:
            raise InputError(f"{options['name']} cannot be rendered: it is damaged.") from error


def _document(file: BinaryIO, options: dict[str, Any]) -> Any:
    """Return the open file, with the first password that fits."""
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ModuleNotFoundError as error:
        raise MissingExtra("Pages of PDF files need pypdfium2: pip install 'nearfield[corpus]'") from error
    logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)
    name, locked = options["name"], False
    for password in ["", *options["passwords"]]:
        file.seek(0)
        try:
            return PdfDocument(file, password=password or None, autoclose=False)
        except PdfiumError as error:
            locked = "assword" in str(error)
            if not locked:
                break
    raise InputError(f"{name}: encrypted with a password." if locked else f"{name}: damaged, or not a PDF file.")


def _page_size(document: Any, number: int) -> tuple[float, float]:
    """Return the size of a page in points; that of A4 if it is damaged."""
    from pypdfium2 import PdfiumError

    try:
        width, height = document.get_page_size(number)
        return float(width), float(height)
    except PdfiumError:
        return 595.0, 842.0


def _pixels(width: float, height: float, side: int = MAX_SIDE) -> tuple[int, int]:
    """Return the pixels of a page of this size in points."""
    scale = min(RESOLUTION / 72, side / max(width, height, 1.0))
    return max(1, round(width * scale)), max(1, round(height * scale))

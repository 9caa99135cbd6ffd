"""Extractor for pictures (PNG, JPEG, TIFF, WebP, BMP, GIF): their text, by OCR. Pages of a TIFF are pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.ocr import require_ocr
from nearfield.corpus.extractors.ocr.page_reader import OcrPage, OcrPageReader, add_page, page_losses
from nearfield.errors import InputError
from nearfield.message_text import count_of

#: Maximum number of pixels of a picture, and of pages of a TIFF.
MAX_PIXELS, MAX_PAGES = 120_000_000, 1000
#: The formats that Pillow may try, whatever its plugins.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
#: Pixels of the longer side that a picture is scaled down to.
_MAX_SIDE = 6400


class PictureExtractor(Extractor):
    """Pictures. They have text only with OCR."""

    suffixes: Mapping[str, str] = {
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".tif": "image/tiff",
        ".tiff": "image/tiff",
        ".webp": "image/webp",
        ".bmp": "image/bmp",
        ".gif": "image/gif",
    }
    uses_ocr = True
    medium = "image"

    def parse(self, data: bytes, name: str) -> Document:
        """Return the recognised text."""
        if not self.options.ocr:
            raise InputError(
                f"{name}: a picture, whose text only OCR can read. Install it (pip install 'nearfield[ocr]') and set "
                "'ocr = true' in the collection's definition (--ocr)."
            )
        require_ocr(name)
        reader = OcrPageReader(self.options, self.on_page, name=name)
        builder = DocumentBuilder()
        pages: dict[int, OcrPage] = {}
        for number, picture in _pictures(data, name, builder):
            pages[number] = reader.read(picture)
            add_page(builder, pages[number], number or None)
        builder.losses += page_losses(pages)
        if not len(builder) and not self.is_searched_without_text:
            reason = "; ".join(loss.reason for loss in builder.losses)
            raise InputError(f"{name}: OCR recognised no text in the picture{f' ({reason})' if reason else ''}.")
        return builder.document("prose", builder.first_heading())


def _pictures(data: bytes, name: str, builder: DocumentBuilder) -> Iterator[tuple[int, Any]]:
    """Yield the pages of a picture with their numbers; the number of a single one is 0."""
    from PIL import Image

    with _limit_of_pillow(name):
        file = Image.open(io.BytesIO(data), formats=_FORMATS)
    with file:
        with _limit_of_pillow(name):
            count = getattr(file, "n_frames", 1)
        if file.format != "TIFF" and count > 1:
            builder.losses.append(Loss(f"{count - 1:,} further frame{'s' if count > 2 else ''} of an animation"))
            count = 1
        if count > MAX_PAGES:
            builder.losses.append(Loss(f"{count_of(count - MAX_PAGES, 'page')} after the first {MAX_PAGES:,}"))
        for number in range(min(count, MAX_PAGES)):
            with _limit_of_pillow(name):
                file.seek(number)
            _check_size(file, name)
            yield (number + 1 if count > 1 else 0), _upright(file)


@contextmanager
def _limit_of_pillow(name: str) -> Iterator[None]:
    """Raise InputError where Pillow refuses the size of a picture. It warns of sizes that are read here.

    Its limit itself is one of the whole process.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        except Image.DecompressionBombError as error:
            count = re.search(r"\d+", str(error))
            raise _too_large(name, f"{int(count[0]):,}" if count else "too many") from error


def _check_size(file: Any, name: str) -> None:
    """Raise InputError if a picture has more pixels than a page can need: it may be a decompression bomb."""
    width, height = file.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,}")


def _too_large(name: str, pixels: str) -> InputError:
    return InputError(
        f"{name}: {pixels} pixels. Pictures of up to {MAX_PIXELS // 10**6} million pixels are read: make it smaller, "
        "or cut it into parts."
    )


def _upright(file: Any) -> Any:
    """Return a frame in RGB on white, turned as its EXIF data say, and scaled down if it is large."""
    from PIL import Image, ImageOps

    if file.format == "JPEG":
        file.draft("RGB", (_MAX_SIDE // 2, _MAX_SIDE // 2))  # the decoder itself scales down
    if file.mode.startswith(("I", "F")):
        picture = _eight_bits(file)
    elif "A" in file.getbands() or "transparency" in file.info:
        colours = file.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    else:
        picture = file.convert("RGB")
    scale = _MAX_SIDE / max(min(picture.size), 1)
    if max(picture.size) > _MAX_SIDE and scale < 1:
        picture = picture.reduce(max(2, min(picture.size) // _MAX_SIDE))
    return ImageOps.exif_transpose(picture)


def _eight_bits(file: Any) -> Any:
    """Return a grey picture of 16 or 32 bits with its range of values stretched to 8 bits."""
    import numpy as np
    from PIL import Image

    values = np.asarray(file, np.float32)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low)) if high > low else np.full_like(values, 255)
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")

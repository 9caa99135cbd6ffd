"""`Image`: a picture as an input, decoded when it is read. A text is never taken for the path of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.media.data_uri import decode_data_uri
from nearfield.media.decoding import (
    Picture,
    PictureHeader,
    ThumbnailFormat,
    convert_array,
    convert_image,
    decode_file,
    encode_png,
    encode_thumbnail,
)
from nearfield.media.files import absolute_path, open_regular_file
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits
from nearfield.media.picture.picture_header import read_header

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: What a picture can be read from.
ImageSource: TypeAlias = "Image | os.PathLike[str] | bytes | bytearray | memoryview | PillowImage | Array"


class Image:
    """A picture as an input of a model. It is opened and decoded when it is encoded, not before.

    ``Image(source)`` takes a ``pathlib.Path``, the bytes of a file, a ``PIL.Image.Image``, or an array of pixels of
    type uint8, [height, width, 3] in RGB or [height, width] in grey. ``Image(path="photo.jpg")`` takes a path as a
    string, and ``Image(uri="data:image/png;base64,...")`` a data URI. A string alone is a text everywhere, and is
    refused here: nothing is opened because a text looks like a path or an address.

    Arrays and Pillow's pictures are not copied: do not change them until they are encoded.

    Args:
        source: the picture.
        path: the path of its file, in place of ``source``.
        uri: a data URI, in place of ``source``.

    Raises:
        InputError: there is none of these or more than one, or it has another type.
    """

    __slots__ = ("_header", "_source")

    def __init__(
        self,
        source: ImageSource | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        uri: str | None = None,
    ) -> None:
        values = [value for value in (source, path, uri) if value is not None]
        if len(values) != 1:
            raise InputError("Image takes one of: a source, path= or uri=.", param="image")
        if path is not None:
            self._source: Any = absolute_path(path)
        elif uri is not None:
            self._source = _require_string(uri)
        else:
            self._source = _checked_source(source)

    @property
    def name(self) -> str:
        """What messages call it: the path of its file, or ``The picture``."""
        return str(self._source) if isinstance(self._source, Path) else "The picture"

    def read(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> Picture:
        """Return the decoded picture.

        Raises:
            InputError: it does not exist, is no picture of a format that is read, or is damaged.
            TooLarge: it has more bytes, pixels or frames than the limits.
            MissingExtra: Pillow is not installed.
        """
        source = self._source
        if isinstance(source, np.ndarray):
            return convert_array(source, limits, self.name)
        if isinstance(source, (bytes, str, Path)):
            picture = decode_file(self._read_file(limits), limits, self.name)
            self._header = picture.header
            return picture
        return convert_image(source, limits, self.name)

    def header(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> PictureHeader:
        """Return what the header of its file says: sides, format, bits of a pixel. No pixel is decoded.

        Once the picture was read, this is what its file said then.

        Raises:
            InputError: it does not exist, is no picture of a format that is read, or is an array or one of Pillow.
            TooLarge: it has more bytes than the limits.
            MissingExtra: Pillow is not installed.
        """
        if not isinstance(self._source, (bytes, str, Path)):
            raise InputError("Pixels have no header: only a file has one.", param="image")
        header: PictureHeader | None = getattr(self, "_header", None)
        if header is not None:
            return header
        return read_header(self._read_file(limits), limits, self.name)

    def pixel_count(self) -> int:
        """Return the number of its pixels: of a file as its header says, whose errors ``header`` describes."""
        source = self._source
        if isinstance(source, (bytes, str, Path)):
            header = self.header()
            return header.width * header.height
        height, width = source.shape[:2] if isinstance(source, np.ndarray) else (source.height, source.width)
        return int(height * width)

    def to_file(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> bytes:
        """Return the bytes of a file of this picture: those of its file, or a PNG of the pixels that ``read`` returns.

        Raises:
            InputError: its file cannot be read, or is no base64. Whether it is a picture is not checked.
            TooLarge: it has more bytes or pixels than the limits.
            MissingExtra: it is an array, or one of Pillow, and Pillow is not installed.
        """
        if isinstance(self._source, (bytes, str, Path)):
            return self._read_file(limits)
        return encode_png(self.read(limits))

    def thumbnail(
        self, max_side: int = 256, form: ThumbnailFormat = "JPEG", limits: PictureLimits = DEFAULT_PICTURE_LIMITS
    ) -> bytes:
        """Return the bytes of a file of this picture, upright, with at most ``max_side`` pixels on its longer side.

        Args:
            max_side: pixels, 1 to 4,096. A smaller picture keeps its size.
            form: the format of the file.
            limits: what the picture may have at most.

        Raises:
            InputError: as for ``read``; or ``max_side`` or ``form`` is wrong.
            TooLarge, MissingExtra: as for ``read``.
        """
        return encode_thumbnail(self.read(limits), max_side, form)

    def _read_file(self, limits: PictureLimits) -> bytes:
        """Return the bytes of its file, wherever that is."""
        source = self._source
        if isinstance(source, str):
            return decode_data_uri(source, limits.max_bytes)
        if isinstance(source, Path):
            with open_regular_file(source, limits.max_bytes) as file:
                return file.read(limits.max_bytes + 1)
        return bytes(source)

    def __repr__(self) -> str:
        source = self._source
        if isinstance(source, Path):
            return f"Image(path={str(source)!r})"
        size = f" {list(source.shape)}" if isinstance(source, np.ndarray) else ""
        size = f" {len(source):,}" if isinstance(source, (bytes, str)) else size
        return f"Image(<{type(source).__name__}{size}>)"


def read_picture(source: ImageSource, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> Picture:
    """Return the picture in a source, decoded: see `Image`, whose errors it raises."""
    image = source if isinstance(source, Image) else Image(source)
    return image.read(limits)


def is_image(value: object) -> bool:
    """Return whether a value is a picture whatever the model: an `Image`, or one of Pillow."""
    return isinstance(value, Image) or _is_pillow(value)


def _is_pillow(value: object) -> bool:
    """Return whether a value is a picture of Pillow, without importing it."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def _checked_source(source: object) -> object:
    if isinstance(source, Image):
        return source._source
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, os.PathLike):
        return absolute_path(source)
    if isinstance(source, (bytes, np.ndarray)) or _is_pillow(source):
        return source
    hint = ". A string is a text: write Image(path=...) or Image(uri=...)" if isinstance(source, str) else ""
    raise InputError(
        f"A picture is a path, bytes, a PIL.Image or an array of uint8, not {type(source).__name__}{hint}.",
        param="image",
    )


def _require_string(uri: object) -> str:
    if not isinstance(uri, str):
        raise InputError(f"uri must be a string, not {type(uri).__name__}.", param="uri")
    return uri

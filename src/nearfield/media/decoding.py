"""Decoding of pictures with Pillow: upright RGB pixels of the first frame, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, get_args

import numpy as np
from msgspec import convert, to_builtins

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra, NearfieldError, TooLarge
from nearfield.media.decoder_process.pool import DecoderJob, run_decoder
from nearfield.media.formats import count_frames, is_bounded, require_format
from nearfield.media.limits import PictureLimits, decode_memory, limit_values
from nearfield.message_text import count_of, escape_controls

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: Bytes of a pixel while it is decoded, as measured: Pillow's four and three of the result; four more for a picture in
#: another mode or turned, and for the coefficients of a progressive JPEG; and with transparency, or in a format whose
#: library decodes into memory elsewhere.
_PLAIN, _CONVERTED, _COMPOSITED = 8, 12, 17
_LIBRARY_FORMATS = ("WEBP", "AVIF")
#: Bits of a pixel by Pillow's modes: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#modes
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24}
_OTHER_BITS = 32
#: Bytes that a child process takes beside a file and its pixels, and seconds that a file may take there.
_OVERHEAD, DECODE_SECONDS = 2**28, 30.0
#: EXIF tag of the orientation. Its values 2 to 8 and the transposition that makes the picture upright, by Pillow's
#: names (EXIF 2.32, table 6).
_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_QUARTER_TURNS = (5, 6, 7, 8)
#: EXIF tags of the directory of the camera, of the time at which the picture was taken there, and of its last change;
#: and the form of such times.
_EXIF_DIRECTORY, _TAKEN, _CHANGED = 0x8769, 0x9003, 0x0132
_EXIF_TIME = re.compile(r"([12]\d{3}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
#: Rows that are copied at a time: Pillow's copy of all of them would double the memory.
_ROWS = 256
#: Locks of pictures that Pillow has opened and not yet decoded, which two threads must not do at the same time.
_LOAD_LOCKS = [Lock() for _ in range(64)]
_MAX_REASON = 200
#: Formats of thumbnails, and pixels of their longer side.
ThumbnailFormat: TypeAlias = Literal["JPEG", "WEBP"]
_MAX_THUMBNAIL = 4096


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What the file of a picture says of itself.

    Args:
        width: pixels as they are stored, before the picture is turned upright; of a TIFF after that.
        height: the same.
        format: one of ``media.formats.FORMATS``.
        bits: bits of a pixel, such as 24 for RGB.
        turned: whether it is displayed turned by a quarter, so that its sides change places.
        taken: when it was taken, by its EXIF data, such as 2024-05-06T12:34:56; empty if it does not say.
    """

    width: int
    height: int
    format: str
    bits: int
    turned: bool = False
    taken: str = ""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as it is displayed."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Args:
        source: uint8 [height, width, 3], RGB, upright, on white where the picture is transparent; or a picture of
            Pillow that is the same: what resizes it needs no array.
        width: pixels of the picture as it is displayed, upright.
        height: the same.
        format: ``"JPEG"`` or another name of ``media.formats.FORMATS``; ``"pixels"`` for arrays and Pillow's pictures.
        content: SHA-256 of the file's bytes, or of shape and pixels.
        warnings: what was left out, such as the other frames of an animation.
        header: what its file says; None for arrays and Pillow's pictures.
        frames: frames of an animation, or pages of a TIFF, of which this is the first.
    """

    source: Array | PillowImage
    width: int
    height: int
    format: str
    content: bytes
    warnings: tuple[str, ...] = ()
    header: PictureHeader | None = None
    frames: int = 1

    @cached_property
    def pixels(self) -> Array:
        """The pixels of ``source``, uint8 [height, width, 3]."""
        return self.source if isinstance(self.source, np.ndarray) else _pixels_of(self.source)


def decode_file(data: bytes, limits: PictureLimits, name: str, min_side: int = 0, page: int = 0) -> Picture:
    """Return the picture in the bytes of a file. May be called from several threads at the same time.

    It waits until ``limits.decode_memory`` has enough bytes free. Formats whose decoders are less tested, and files
    that may take long for their size, are decoded in a child process. With ``min_side``, a JPEG may be returned at a
    half, a quarter or an eighth of its size, each side with so many pixels at least: that is several times as fast.
    ``page`` is the number of a page of a TIFF from 1; 0 reads the first, and warns if there are more.

    Raises:
        InputError: it is no picture of a format that is read, or is damaged. ``name`` begins the message.
        TooLarge: it has more bytes, pixels or frames than the limits.
        MissingExtra: Pillow is not installed.
    """
    _check_bytes(len(data), limits, name)
    if is_bounded(data, require_format(data, name)):
        return decode_here(data, limits, name, min_side, page)
    memory = _COMPOSITED * limits.max_pixels + 4 * limits.max_bytes + _OVERHEAD
    options = {"limits": limit_values(limits), "name": name, "page": page}
    result = run_decoder(DecoderJob("picture", name, options, memory, DECODE_SECONDS), data)
    values = result.values
    header = PictureHeader(**values.pop("header"))
    return Picture(result.arrays[0], **{**values, "warnings": tuple(values["warnings"])}, header=header)


def decode_picture_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return fields and pixels of the picture in a file: what the child process does."""
    limits = convert(options["limits"], PictureLimits)
    picture = decode_here(file.read(), limits, options["name"], page=options.get("page", 0))
    names = ("width", "height", "format", "warnings", "header", "frames")
    values = {name: to_builtins(getattr(picture, name)) for name in names}
    return {**values, "content": picture.content}, [picture.pixels]


def decode_here(data: bytes, limits: PictureLimits, name: str, min_side: int = 0, page: int = 0) -> Picture:
    """Decode a file in this process, whatever its format; otherwise as ``decode_file``."""
    kind = require_format(data, name)
    image = require_pillow()
    import_module(f"PIL.{plugin_of(kind)}")
    frames = count_frames(data, kind, limits.max_frames)
    _check_frames(frames, limits, name)
    if page > frames:
        raise InputError(f"{name} has {count_of(frames, 'page')}: there is no page {page}.", param="page")
    with own_errors(name, kind, limits), image.open(io.BytesIO(data), formats=(kind,)) as file:
        if page > 1:
            file.seek(page - 1)
        header = header_of(file, kind)
        check_sides(header.width, header.height, limits, name)
        if kind not in ("JPEG", "GIF", "TIFF"):  # a JPEG's further pictures are its depth map or a preview
            frames = getattr(file, "n_frames", 1)
            _check_frames(frames, limits, name)
        if min_side and kind == "JPEG":
            file.draft(None, (min_side, min_side))
        with decode_memory().reserve(_memory_of(file)):
            file.load()
            upright, warnings = _upright(file, name)
    if frames > 1 and not page:
        what = "page" if kind == "TIFF" else "frame"
        warnings = (f"only the first of {count_of(frames, what)} was read", *warnings)
    content = hashlib.sha256(data)
    if page > 1:
        content.update(b"page %d" % page)
    return Picture(upright, upright.width, upright.height, kind, content.digest(), warnings, header, frames)


def header_of(file: PillowImage, kind: str) -> PictureHeader:
    """Return the header of a file that Pillow has opened."""
    bits = 16 if file.mode.startswith("I;16") else _BITS.get(file.mode, _OTHER_BITS)
    if kind == "PNG" and "exif" not in file.info:  # Pillow would decode the pixels to look for data behind them
        return PictureHeader(file.width, file.height, kind, bits)
    turned = kind != "TIFF" and _orientation(file)[0] in _QUARTER_TURNS  # of a TIFF, Pillow states the sides upright
    return PictureHeader(file.width, file.height, kind, bits, turned, _taken(file))


def _taken(file: PillowImage) -> str:
    """Return when a picture was taken, or else last changed, by its EXIF data; empty if they do not say."""
    try:
        exif = file.getexif()
        stated = exif.get_ifd(_EXIF_DIRECTORY).get(_TAKEN) or exif.get(_CHANGED)
    except Exception:  # noqa: BLE001 - the pixels are there, whatever the data about them
        return ""
    match = _EXIF_TIME.match(str(stated))
    return "{}-{}-{}T{}".format(*match.groups()) if match else ""


def convert_image(image: PillowImage, limits: PictureLimits, name: str) -> Picture:
    """Return the picture of a ``PIL.Image``, upright by its EXIF data, if it has them.

    Raises:
        InputError: its file is damaged, or its mode has no 8-bit values (``I`` and ``F``).
        TooLarge: it has more pixels than the limits.
    """
    with own_errors(name, image.format or "an image", limits):
        check_sides(image.width, image.height, limits, name)
        with decode_memory().reserve(_memory_of(image)):
            with _LOAD_LOCKS[id(image) % len(_LOAD_LOCKS)]:
                image.load()
            upright, warnings = _upright(image, name)
            pixels = _pixels_of(upright)  # the caller may change the picture
    return _picture_of(pixels, warnings)


def convert_array(array: Array, limits: PictureLimits, name: str) -> Picture:
    """Return the picture of uint8 pixels, [H, W, 3] in RGB or [H, W] in grey.

    Raises:
        InputError: it has another type or shape.
        TooLarge: it has more pixels than the limits.
    """
    if array.dtype != np.uint8:
        hint = " Multiply values from 0 to 1 by 255 first." if array.dtype.kind == "f" else ""
        raise InputError(f"{name} has values of type {array.dtype}: convert it to numpy.uint8.{hint}")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise InputError(
            f"{name} has the shape {list(array.shape)}. An array of pixels is [height, width, 3] in RGB, or "
            "[height, width] in grey. With other channels, pass PIL.Image.fromarray(array)."
        )
    check_sides(array.shape[1], array.shape[0], limits, name)
    rgb = array if array.ndim == 3 else np.broadcast_to(array[:, :, None], (*array.shape, 3))
    return _picture_of(np.array(rgb, order="C"), ())


def encode_png(picture: Picture) -> bytes:
    """Return the bytes of a PNG file: decoded, it has the same pixels."""
    file = io.BytesIO()
    # The least compression: a larger file costs less time than a smaller one.
    require_pillow().fromarray(picture.pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def encode_thumbnail(picture: Picture, max_side: int = 256, form: ThumbnailFormat = "JPEG", quality: int = 80) -> bytes:
    """Return the bytes of a file of a smaller picture, with the same proportions.

    Args:
        picture: the picture. A smaller one keeps its size.
        max_side: pixels of the longer side, 1 to 4,096.
        form: the format of the file.
        quality: 1 to 100, by the scale of the format.

    Raises:
        InputError: a number is out of its range, or there is no such format.
        MissingExtra: Pillow is not installed.
    """
    _check_number("max_side", max_side, _MAX_THUMBNAIL)
    _check_number("quality", quality, 100)
    if form not in get_args(ThumbnailFormat):
        raise InputError(f"A thumbnail is JPEG or WEBP, not {form!r}.", param="form")
    image = picture.source if not isinstance(picture.source, np.ndarray) else require_pillow().fromarray(picture.source)
    scale = min(1.0, max_side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    file = io.BytesIO()
    small = image if size == image.size else image.resize(size, reducing_gap=2.0)
    small.save(file, form, quality=quality)
    return file.getvalue()


def _check_number(name: str, value: object, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= largest:
        raise InputError(f"{name} must be a whole number from 1 to {largest:,}, and is {value!r}.", param=name)


def require_pillow() -> Any:
    """Return the module ``PIL.Image``.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    try:
        return import_module("PIL.Image")
    except ModuleNotFoundError as error:
        raise MissingExtra("Pictures need Pillow: pip install 'nearfield[media]'") from error


def plugin_of(kind: str) -> str:
    """Return Pillow's module for a format; to import it registers it, and no other."""
    return {"JPEG": "JpegImagePlugin", "WEBP": "WebPImagePlugin", "AVIF": "AvifImagePlugin"}.get(
        kind, f"{kind.capitalize()}ImagePlugin"
    )


def _picture_of(pixels: Array, warnings: tuple[str, ...]) -> Picture:
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"pixels {height} {width} ".encode())
    digest.update(pixels.data)
    return Picture(pixels, width, height, "pixels", digest.digest(), warnings)


def _check_bytes(size: int, limits: PictureLimits, name: str) -> None:
    if size > limits.max_bytes:
        raise TooLarge(f"{name} has {size:,} bytes. At most {limits.max_bytes:,} bytes are read.")


def check_sides(width: int, height: int, limits: PictureLimits, name: str) -> None:
    """Raise InputError or TooLarge for a picture that has no pixels, or more than the limits."""
    if min(width, height) < 1:
        raise InputError(f"{name} has no pixels: it is {width} x {height}.")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise TooLarge(
            f"{name} has {width:,} x {height:,} pixels. At most {limits.max_pixels:,} pixels are read, and "
            f"{limits.max_side:,} a side: make it smaller."
        )


def _check_frames(frames: int, limits: PictureLimits, name: str) -> None:
    if frames > limits.max_frames:
        raise TooLarge(f"{name} has more than {limits.max_frames:,} frames or pages, the number that is allowed.")


def _memory_of(image: PillowImage) -> int:
    """Return the bytes that a picture takes while it is decoded and converted."""
    each_pixel = _PLAIN
    if image.mode != "RGB" or "progressive" in image.info or _orientation(image)[0] in _TRANSPOSITIONS:
        each_pixel = _CONVERTED
    if image.has_transparency_data or image.format in _LIBRARY_FORMATS:
        each_pixel = _COMPOSITED
    return image.width * image.height * each_pixel


@contextmanager
def own_errors(name: str, kind: str, limits: PictureLimits) -> Iterator[None]:
    """Raise errors of ours in place of those of Pillow, zlib, struct and others, which damaged files cause."""
    try:
        yield
    except NearfieldError:
        raise
    except MemoryError as error:
        raise TooLarge(f"{name} needs more memory to decode than there is.") from error
    except Exception as error:  # decoders raise SyntaxError, struct.error, EOFError and many others
        if type(error).__name__.startswith("DecompressionBomb"):
            count = re.search(r"\d+", str(error))
            pixels = f"{int(count[0]):,}" if count else "too many"
            raise TooLarge(f"{name} has {pixels} pixels. At most {limits.max_pixels:,} pixels are read.") from error
        raise InputError(f"{name} cannot be decoded as {kind}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    text = escape_controls(str(error)).rstrip(".")[:_MAX_REASON]
    unclear = not text or type(error).__name__ == "UnidentifiedImageError"
    return "its header is damaged" if unclear else text


def _upright(image: PillowImage, name: str) -> tuple[PillowImage, tuple[str, ...]]:
    """Return a loaded picture upright in RGB, and warnings."""
    orientation, warnings = _orientation(image)
    rgb = _rgb(image, name)
    if orientation in _TRANSPOSITIONS:
        rgb = rgb.transpose(getattr(require_pillow().Transpose, _TRANSPOSITIONS[orientation]))
    return rgb, warnings


def _pixels_of(rgb: PillowImage) -> Array:
    """Return the pixels of a picture in RGB, uint8 [H, W, 3]."""
    pixels = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top in range(0, rgb.height, _ROWS):
        bottom = min(top + _ROWS, rgb.height)
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return pixels


def _orientation(image: PillowImage) -> tuple[object, tuple[str, ...]]:
    try:
        return image.getexif().get(_ORIENTATION, 1), ()
    except Exception:  # noqa: BLE001 - the pixels are there, whatever the data about them
        return 1, ("its EXIF data are damaged and were ignored",)


def _rgb(image: PillowImage, name: str) -> PillowImage:
    """Return a picture in mode RGB: 16 bits divided by 256, transparency on white, all else as Pillow converts it."""
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name} has 32 bits a pixel (mode {image.mode!r}), and their range is unknown: convert it to 8 or 16 bits."
        )
    if image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = require_pillow().new("RGBA", rgba.size, (255, 255, 255, 255))
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: PillowImage) -> PillowImage:
    """Return a grey picture of 16 bits in RGB. Pillow's conversion would cut off all values above 255."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return require_pillow().fromarray(grey).convert("RGB")

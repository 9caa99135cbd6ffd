"""Facts about a picture from the header of its file; no pixel is decoded."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, BinaryIO

from msgspec import convert, to_builtins

from nearfield.arrays import Array
from nearfield.media.decoder_process.pool import DecoderJob, run_decoder
from nearfield.media.decoding import (
    DECODE_SECONDS,
    PictureHeader,
    header_of,
    own_errors,
    plugin_of,
    require_pillow,
)
from nearfield.media.formats import has_bounded_header, require_format
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits, limit_values

#: Bytes at the start of a file by which its format is recognised, and bytes that a child process may take.
_HEAD_BYTES, _MEMORY = 1024, 2**29


def read_header(
    source: bytes | BinaryIO, limits: PictureLimits = DEFAULT_PICTURE_LIMITS, name: str = "The picture"
) -> PictureHeader:
    """Return the header of a picture's file: its bytes, or the open file.

    Raises:
        InputError: it is no picture of a format that is read, or its header is damaged. ``name`` begins the message.
        MissingExtra: Pillow is not installed.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    kind = require_format(file.read(_HEAD_BYTES), name)
    if has_bounded_header(file, kind):
        return _read_here(file, kind, limits, name)
    options = {"limits": limit_values(limits), "name": name, "kind": kind}
    job = DecoderJob("picture header", name, options, _MEMORY + 3 * limits.max_bytes, DECODE_SECONDS)
    return PictureHeader(**run_decoder(job, source).values)


def read_header_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return the fields of a header: what the child process does."""
    header = _read_here(file, options["kind"], convert(options["limits"], PictureLimits), options["name"])
    return to_builtins(header), []


def _read_here(file: BinaryIO, kind: str, limits: PictureLimits, name: str) -> PictureHeader:
    image = require_pillow()
    import_module(f"PIL.{plugin_of(kind)}")
    file.seek(0)
    with own_errors(name, kind, limits), image.open(file, formats=(kind,)) as opened:
        return header_of(opened, kind)

"""Data sets of pictures for bulk embedding: folders, tables and tars, with items that cannot be read among them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import bad_media, tiny_pictures

#: What ``bad_items`` gives, by name, with a part of the reason.
BAD_REASONS = {
    "truncated": "cannot be decoded as JPEG",
    "empty": "is empty",
    "bomb": "pixels",
    "letter": "a text, no picture",
    "page": "PDF",
}


def good_items(count: int) -> dict[str, bytes]:
    """Return PNG files of pictures, by names in order."""
    files = tiny_pictures.png_files()
    return {f"g{number:04}.png": files[number % len(files)] for number in range(count)}


def bad_items() -> dict[str, bytes]:
    """Return files that are no pictures that are read, by the names of ``BAD_REASONS``."""
    names = dict(zip(BAD_REASONS, ("truncated.jpg", "empty.png", "huge.png", "letter.jpg", "page.pdf"), strict=True))
    return {name: bad_media.PICTURES[source][0] for name, source in names.items()}


def write_folder(folder: Path, items: Mapping[str, bytes]) -> Path:
    """Write files, whose times are those of a minute ago."""
    for name, data in items.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return folder


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write a tar whose members are in this order, and whose time is that of a minute ago."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return path

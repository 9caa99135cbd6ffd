"""Samples of a tar in the layout of WebDataset: consecutive members whose names are the same up to the first dot."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

from nearfield.bulk.media_files.media_row import to_unicode
from nearfield.fileio.tar_headers import TarHeaders


@dataclass(frozen=True)
class TarMember:
    """A file in a tar: where its bytes are; ``is_plain`` is false if they are not there, or in pieces."""

    offset: int
    size: int
    is_plain: bool = True


@dataclass
class TarSample:
    """Members of one sample by the parts of their names after the first dot, in lower case; where its first header is.

    ``problem`` says why nothing more can be read from there.
    """

    key: str
    offset: int
    members: dict[str, TarMember] = field(default_factory=dict)
    problem: str = ""

    @property
    def suffixes(self) -> Mapping[str, TarMember]:
        """The members by their last suffix, such as ``.jpg``; of several with the same suffix the first."""
        members: dict[str, TarMember] = {}
        for name, member in self.members.items():
            members.setdefault(f".{name.rpartition('.')[2]}", member)
        return members


def read_samples(file: BinaryIO, start: int = 0) -> Iterator[TarSample]:
    """Yield the samples of a tar from a header on; the last one has a problem if the tar is damaged or cut off."""
    reader = TarHeaders(file, start)
    sample: TarSample | None = None
    for info in reader.members():
        key, _, name = _split(info.name)
        if info.isdir() or not name or _is_hidden(info.name):
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key, info.offset)
        plain = info.isreg() and info.type != tarfile.GNUTYPE_SPARSE and not info.sparse
        sample.members.setdefault(name.lower(), TarMember(info.offset_data, info.size, plain))
    if sample is not None:
        yield sample
    if reader.problem:
        yield TarSample(f"byte={reader.end}", reader.end, problem=reader.problem)


def _split(name: str) -> tuple[str, str, str]:
    """Return the key of a member's sample, the dot, and the rest of its name."""
    path = PurePosixPath(to_unicode(name).removeprefix("./"))
    stem, dot, rest = path.name.partition(".")
    return (path.parent / stem).as_posix(), dot, rest


def _is_hidden(name: str) -> bool:
    """Return whether a member is no data: macOS adds files that begin with a dot."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name.removeprefix("./")).parts)

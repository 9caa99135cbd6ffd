"""Hard links in place of files with the same bytes: each in one step, and only after all bytes were compared."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from nearfield.bulk.media_files.duplicates.duplicate_report import DuplicateFile, DuplicateReport
from nearfield.bulk.media_files.duplicates.folder_listing import ListedFile
from nearfield.bulk.media_files.duplicates.media_facts import require_unchanged
from nearfield.errors import InputError, NearfieldError
from nearfield.message_text import count_of, escape_controls, quote_name
from nearfield.units import format_bytes

_BLOCK = 1 << 20


@dataclass
class LinkReport:
    """What was linked, or with ``dry_run`` what would be: copies with their originals, and why others were not."""

    dry_run: bool
    linked: list[tuple[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    bytes: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "dry_run": self.dry_run,
            "linked": [{"path": path, "to": original} for path, original in self.linked],
            "skipped": [{"path": path, "problem": problem} for path, problem in self.skipped.items()],
            "bytes": self.bytes,
        }

    def to_text(self) -> str:
        """Return the report as text for a terminal."""
        verb = "would become" if self.dry_run else "became"
        count = count_of(len(self.linked), "file")
        lines = [f"{quote_name(path)} -> {quote_name(original)}" for path, original in self.linked]
        lines += [f"{quote_name(path)} stays: {escape_controls(text)}" for path, text in self.skipped.items()]
        note = " Nothing was changed (--dry-run)." if self.dry_run else ""
        return "\n".join([*lines, f"{count} {verb} hard links; {format_bytes(self.bytes)} less on the disk.{note}"])


def link_copies(
    report: DuplicateReport, *, dry_run: bool = True, on_done: Callable[[], None] = lambda: None
) -> LinkReport:
    """Replace files by hard links to files with the same bytes. Near-copies are never replaced, nothing is deleted.

    A file stays as it was, with a reason in the report, if it or its original was changed since it was listed, if the
    two differ in any byte, owner, permission or extended attribute, or lie on different file systems. A link is created
    beside the file and takes its name in one step, so that the name exists at each moment.

    Args:
        report: what ``find_duplicate_files`` returned.
        dry_run: only compare, and change nothing.
        on_done: called after each file.
    """
    links = LinkReport(dry_run)
    for copy in report.linkable():
        try:
            links.bytes += _replace(copy, dry_run)
            links.linked.append((copy.path, copy.original.name if copy.original else ""))
        except OSError as error:
            links.skipped[copy.path] = f"{error.strerror or error}."
        except NearfieldError as error:
            links.skipped[copy.path] = str(error)
        on_done()
    return links


def _replace(copy: DuplicateFile, dry_run: bool) -> int:
    """Replace a file by a link to its original; return the bytes that this frees."""
    original = copy.original
    if original is None:
        raise InputError("There is no file with the same bytes.")
    if copy.file.device != original.device:
        raise InputError(f"{original.name}, which has the same bytes, is on another file system.")
    with _open(copy.file) as first, _open(original) as second:
        _require_equal(copy.file, first, original, second)
        links = os.fstat(first.fileno()).st_nlink
        if not dry_run:
            _put_link(copy.file, original)
    return copy.file.size if links == 1 else 0


def _open(file: ListedFile) -> BinaryIO:
    source = open(os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115
    try:
        require_unchanged(file, os.fstat(source.fileno()))
    except BaseException:
        source.close()
        raise
    return source


def _require_equal(copy: ListedFile, first: BinaryIO, original: ListedFile, second: BinaryIO) -> None:
    """Raise InputError unless two open files are the same in all that a link has in common with its original."""
    one, other = os.fstat(first.fileno()), os.fstat(second.fileno())
    if (one.st_uid, one.st_gid, one.st_mode) != (other.st_uid, other.st_gid, other.st_mode):
        raise InputError(f"{original.name}, which has the same bytes, has another owner or other permissions.")
    if _attributes(first) != _attributes(second):
        raise InputError(f"{original.name}, which has the same bytes, has other extended attributes.")
    while part := first.read(_BLOCK):
        if part != second.read(len(part)):
            raise InputError(f"It differs from {original.name} by now: run the command again.")
    require_unchanged(copy, os.fstat(first.fileno()))
    require_unchanged(original, os.fstat(second.fileno()))


def _attributes(file: BinaryIO) -> dict[str, bytes]:
    if not hasattr(os, "listxattr"):
        return {}
    try:
        return {name: os.getxattr(file.fileno(), name) for name in os.listxattr(file.fileno())}
    except OSError:  # a file system without any
        return {}


def _put_link(copy: ListedFile, original: ListedFile) -> None:
    """Put a link in the place of a file, under another name first."""
    draft: Path = copy.path.with_name(f".nearfield-link-{secrets.token_hex(8)}")
    os.link(original.path, draft, follow_symlinks=False)
    try:
        require_unchanged(original, draft.lstat())
        require_unchanged(copy, copy.path.lstat())
        draft.replace(copy.path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()

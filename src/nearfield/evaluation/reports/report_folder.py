"""The folder of reports: lists and reads what is in it, whatever that is."""

from __future__ import annotations

import heapq
import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import msgspec

from nearfield.errors import InputError, NotThere, StorageFailed
from nearfield.evaluation.reports.report import Report, ReportSummary
from nearfield.evaluation.reports.report_file import read_report

#: Files that are listed, the newest ones.
MAX_FILES = 200
_SUFFIX = ".json"
#: What changes with the content of a file: name, time of change, size, inode.
Version = tuple[str, int, int, int]


class ReportList(msgspec.Struct):
    """The newest reports, those of the latest time first, and how many files are not listed (``more``)."""

    reports: list[ReportSummary]
    more: int


class ReportFolder:
    """Reads the reports of a folder, which need not exist.

    Args:
        folder: files that end in ``.json`` are reports; None: there are none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: OrderedDict[Version, ReportSummary] = OrderedDict()
        self._lock = Lock()

    def summaries(self) -> ReportList:
        """Return the reports; a file that cannot be read is listed with the reason.

        Raises:
            StorageFailed: the folder cannot be read.
        """
        versions = self._versions()
        newest = heapq.nlargest(MAX_FILES, versions, key=lambda version: version[1])
        with self._lock:
            self._known = OrderedDict(
                (version, self._known.get(version) or self._summary(version)) for version in newest
            )
            reports = sorted(self._known.values(), key=lambda report: -report.created)
        return ReportList(reports, len(versions) - len(newest))

    def read(self, name: str) -> Report:
        """Return a report, by the name of its file.

        Raises:
            NotThere: there is no such file.
            InputError: it is no report; the message says why.
        """
        if self._folder is None or not _is_name(name) or not os.path.lexists(self._folder / name):
            raise NotThere(f"There is no report {name!r}. GET /reports lists what there is.", param="name")
        try:
            return read_report(self._folder / name)
        except InputError as error:
            raise InputError(f"The file {name!r} cannot be shown. {error}", param="name") from error

    def _versions(self) -> list[Version]:
        if self._folder is None:
            return []
        try:
            with os.scandir(self._folder) as entries:
                return [version for entry in entries if (version := _version(entry)) is not None]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageFailed(f"The folder of reports cannot be read: {error.strerror}.") from error

    def _summary(self, version: Version) -> ReportSummary:
        name, changed = version[0], version[1] / 1e9
        assert self._folder is not None
        shown = os.fsencode(name).decode("utf-8", "replace")
        if shown != name:
            return ReportSummary(shown, changed, problem="The name of the file is not in UTF-8.")
        try:
            report = read_report(self._folder / name)
        except InputError as error:
            return ReportSummary(name, changed, problem=str(error))
        return ReportSummary(**{field: getattr(report, field) for field in ReportSummary.__struct_fields__})


def _version(entry: os.DirEntry[str]) -> Version | None:
    """Return the version of a file that may be a report; None for others, and for one that has just been removed."""
    if not _is_name(entry.name):
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return entry.name, status.st_mtime_ns, status.st_size, status.st_ino


def _is_name(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".") and "/" not in name and "\0" not in name

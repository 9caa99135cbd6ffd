"""Files that LibreOffice converts from files of the corpus: OpenDocument, RTF, the binary formats of Office, PDF."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.corpus.truth.model import TruthFile, renamed

#: Suffixes that files of a type are converted to.
TARGETS = {
    "docx": ("odt", "rtf", "doc", "pdf", "docx"),
    "xlsx": ("ods", "xls", "xlsx"),
    "pptx": ("odp", "ppt", "pdf", "pptx"),
}
#: Files of each type that are converted.
_PER_TYPE = 2
_TIMEOUT = 300


@cache
def program() -> str | None:
    """Return the path of LibreOffice's program; None if it is not installed."""
    return shutil.which("soffice") or shutil.which("libreoffice")


@cache
def version() -> str:
    """Return the name and version of the program, such as "LibreOffice 7.4.7.2"; nothing if it is not installed."""
    path = program()
    if path is None:
        return ""
    done = subprocess.run([path, "--version"], check=True, capture_output=True, text=True, timeout=_TIMEOUT)
    return " ".join(done.stdout.split()[:2])


def converted(files: Sequence[TruthFile]) -> Iterator[TruthFile]:
    """Yield files with the truth of those that they are converted from. They are converted when one is built."""
    for suffix, targets in TARGETS.items():
        sources = tuple(file for file in files if file.suffix == suffix and not file.fault)[:_PER_TYPE]
        for source in sources:
            for target in targets:
                name = f"{source.name.rpartition('.')[0]}.{target}"
                build = _Conversion(source, sources, target)
                yield renamed(source, name, build, "LibreOffice")


class _Conversion:
    """Builds a file by converting another; all files of a type are converted by one process."""

    def __init__(self, source: TruthFile, together: tuple[TruthFile, ...], target: str) -> None:
        self._source, self._together, self._target = source, together, target

    def __call__(self) -> bytes:
        return _convert(self._together, self._target)[self._source.name]


@cache
def _convert(files: tuple[TruthFile, ...], target: str) -> dict[str, bytes]:
    """Return the converted files by the names of their sources."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            (folder / file.name).write_bytes(file.build())
        command = [str(program()), f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless"]
        command += [
            "--convert-to",
            target,
            "--outdir",
            str(folder / "out"),
            *(str(folder / file.name) for file in files),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)
        return {file.name: (folder / "out" / f"{file.name.rpartition('.')[0]}.{target}").read_bytes() for file in files}

"""`PackedProgram`: a compiled graph in a file, from which other processes of this machine load it."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from nearfield.errors import InputError

if TYPE_CHECKING:
    from nearfield.backends import Program


@dataclass(frozen=True)
class PackedProgram:
    """A program in an open file, which may have no name any more.

    ``load`` returns the program from the file's bytes, a read-only array of uint8; it can be pickled.
    """

    file: BinaryIO
    load: Callable[[memoryview], Program]
    precision: str

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    @classmethod
    def from_program(cls, program: Program, folder: Path | None) -> PackedProgram:
        """Pickle a program, into a temporary file in ``folder`` (None: in the system's).

        Raises:
            InputError: programs of its backend cannot be pickled.
        """
        packed = cls(open_temporary(folder), cast("Callable[[memoryview], Program]", pickle.loads), program.precision)
        try:
            pickle.dump(program, packed.file, 5)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise InputError(
                f"This backend runs on no sets of CPUs: its programs cannot be sent to another process ({error}). "
                "Leave devices out, or set backend to 'openvino' or 'torch'.",
                param="devices",
            ) from error
        packed.file.flush()
        return packed


def open_temporary(folder: Path | None) -> BinaryIO:
    """Return a new file without a name in a folder, which is created if it is missing."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))

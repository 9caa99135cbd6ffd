"""Large constants of a graph in a temporary file, so that they are in memory once, as the runtime packs them.

OpenVINO keeps the constants that it was given beside the packed weights that it computes with. Pages of a file make way
when memory is short, and are read again in the rare case that they are needed.
"""

from __future__ import annotations

import logging
import mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nearfield.arrays import Array
from nearfield.backends.packed_program import open_temporary

#: Bytes from which an array is written to the file, and bytes of the file that are mapped at once.
_MIN_BYTES, _PART_BYTES = 2**20, 2**28
#: Where arrays begin: at a multiple of the lines of a cache.
_ALIGNMENT = 64
_LOG = logging.getLogger(__name__)


class WeightFile:
    """A file without a name, created for the first large array, and gone when the last of its arrays is.

    In a ``with`` block it takes arrays; they stay readable after it.

    Args:
        folder: where to create it; None: the system's folder of temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._has_failed = False
        #: The part of the file that is being filled, where it begins, and the bytes in use of it.
        self._part, self._start, self._used = np.empty(0, np.uint8), 0, 0
        #: The arrays that are mapped from the file: a reader of their memory has to refer to them.
        self.mapped: list[Array] = []

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def store(self, array: Array) -> Array | None:
        """Return an array that is mapped from the file; None if it is small, or the disk does not take it."""
        if array.nbytes < _MIN_BYTES or self._has_failed:
            return None
        try:
            mapped = self._append(np.ascontiguousarray(array))
        except OSError as error:
            self._has_failed = True
            _LOG.warning("Quantised weights stay in memory: no temporary file could be written (%s)", error)
            return None
        self.mapped.append(mapped)
        return mapped

    def _append(self, array: Array) -> Array:
        if self._file is None:
            self._file = open_temporary(self._folder)
        if self._used + array.nbytes > len(self._part):
            self._extend(self._file, max(array.nbytes, _PART_BYTES))
        start, stop = self._used, self._used + array.nbytes
        self._file.seek(self._start + start)
        self._file.write(array.data)  # not through the map, where a full disk ends the process
        self._file.flush()
        self._used = -(-stop // _ALIGNMENT) * _ALIGNMENT
        return self._part[start:stop].view(array.dtype).reshape(array.shape)

    def _extend(self, file: BinaryIO, size: int) -> None:
        """Map a further part of the file; one map for each array would take a file descriptor for each."""
        self._start += -(-len(self._part) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        file.truncate(self._start + size)
        # OpenVINO takes no memory that is read-only, and writes nothing.
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE, offset=self._start)
        self._part, self._used = np.frombuffer(memory, np.uint8), 0

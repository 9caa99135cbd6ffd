"""Messages between the process that decodes a file and its parent: msgpack behind a length, and raw bytes of arrays.

Nothing is pickled: a decoder that was taken over can send texts, numbers and arrays only.
"""

from __future__ import annotations

import socket
import time
from typing import Any, TypeVar

import msgspec
import numpy as np

from nearfield.arrays import Array

#: What can be decoded: name -> module and function, a ``worker.DecodeTask``.
TASKS = {
    "pdf header": "nearfield.media.picture.pdf_pages:read_pages_task",
    "pdf page": "nearfield.media.picture.pdf_pages:render_page_task",
    "picture": "nearfield.media.decoding:decode_picture_task",
    "picture header": "nearfield.media.picture.picture_header:read_header_task",
    "sound": "nearfield.media.sound.sound_decoding:decode_sound_task",
    "sound header": "nearfield.media.sound.sound_decoding:read_header_task",
    "video clip": "nearfield.media.video.clips:cut_clip_task",
    "video cuts": "nearfield.media.video.scene_detection:find_cuts_task",
    "video frames": "nearfield.media.video.video_decoding:decode_frames_task",
    "video header": "nearfield.media.video.video_decoding:read_header_task",
    "video sound": "nearfield.media.video.sound_track:read_track_task",
}
#: Bytes of the length before each message, and of the largest message.
LENGTH_BYTES, MAX_MESSAGE = 4, 2**20
#: What the parent sends once the memory is reserved that the child has asked for.
GRANTED = b"g"
#: Bytes that are sent at once.
_PART = 2**20
#: Types of the values of an array.
_DTYPES = ("|u1", "<f4", "<f8", "<i4", "<i8")

MessageType = TypeVar("MessageType")


class JobMessage(msgspec.Struct, tag=True, frozen=True):
    """One file to decode.

    ``size`` is the number of bytes that follow, or None where the descriptor of an open file follows. ``memory`` is in
    bytes, ``seconds`` are those after which the parent kills the process.
    """

    task: str
    options: dict[str, Any]
    size: int | None
    memory: int
    seconds: float


class StartMessage(msgspec.Struct, tag=True, frozen=True):
    """The job was read: from here on, the end of the process is the fault of the file."""


class ReserveMessage(msgspec.Struct, tag=True, frozen=True):
    """The decoder needs this many bytes, and waits until they are granted."""

    size: int


class ArrayHead(msgspec.Struct, frozen=True):
    """Type and shape of an array whose bytes follow the reply."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Number of its bytes."""
        count = np.dtype(self.dtype).itemsize
        for side in self.shape:
            count *= side
        return count


class ReplyMessage(msgspec.Struct, tag=True, frozen=True):
    """What the decoder returned; or the class name, message and parameter of its error.

    With ``more``, it is one of several results, and another reply follows.
    """

    error: str = ""
    message: str = ""
    param: str | None = None
    values: dict[str, Any] = {}
    arrays: list[ArrayHead] = []
    more: bool = False


ChildMessage = StartMessage | ReserveMessage | ReplyMessage


def send_message(link: socket.socket, message: msgspec.Struct) -> None:
    """Send a message behind its length."""
    data = msgspec.msgpack.encode(message)
    link.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)


def receive_message(link: socket.socket, kind: type[MessageType] | Any, until: float | None = None) -> MessageType:
    """Return the next message; ``until`` is a time of ``time.monotonic``.

    Raises:
        EOFError: the other side has closed the connection.
        TimeoutError: the time came first.
        msgspec.DecodeError: it is no message of this kind.
    """
    size = int.from_bytes(receive_bytes(link, LENGTH_BYTES, until), "big")
    if size > MAX_MESSAGE:
        raise msgspec.DecodeError(f"a message of {size} bytes")
    message: MessageType = msgspec.msgpack.decode(receive_bytes(link, size, until), type=kind)
    return message


def receive_bytes(link: socket.socket, size: int, until: float | None = None) -> bytearray:
    """Return the next bytes. Raises as ``receive_message`` does."""
    data = bytearray(size)
    _fill(link, memoryview(data), until)
    return data


def send_bytes(link: socket.socket, data: bytes, until: float) -> None:
    """Send bytes.

    Raises:
        TimeoutError: the other side did not read them until a time of ``time.monotonic``.
        OSError: it has closed the connection.
    """
    view = memoryview(data)
    for start in range(0, len(view), _PART):
        link.settimeout(_left(until))
        link.sendall(view[start : start + _PART])


def send_arrays(link: socket.socket, arrays: list[Array]) -> None:
    """Send the bytes of arrays, one after another."""
    for array in arrays:
        link.sendall(np.ascontiguousarray(array).data.cast("B") if array.size else b"")


def receive_arrays(link: socket.socket, heads: list[ArrayHead], max_bytes: int, until: float) -> list[Array]:
    """Return arrays, whose bytes come one after another.

    Raises:
        msgspec.DecodeError: they have more than ``max_bytes`` bytes, or another type or shape than arrays have.
        EOFError, TimeoutError: as for ``receive_message``.
    """
    if any(head.dtype not in _DTYPES or min(head.shape, default=0) < 0 for head in heads):
        raise msgspec.DecodeError("an array of another type or shape")
    if sum(head.bytes for head in heads) > max_bytes:
        raise msgspec.DecodeError(f"arrays of more than {max_bytes} bytes")
    arrays = [np.empty(head.shape, head.dtype) for head in heads]
    for array in arrays:
        if array.size:
            _fill(link, array.data.cast("B"), until)
    return arrays


def head_of(array: Array) -> ArrayHead:
    """Return type and shape of an array."""
    return ArrayHead(array.dtype.str, array.shape)


def _fill(link: socket.socket, view: memoryview, until: float | None) -> None:
    while view:
        link.settimeout(None if until is None else _left(until))
        count = link.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


def _left(until: float) -> float:
    """Return the seconds until a time; a socket takes zero for another mode."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds

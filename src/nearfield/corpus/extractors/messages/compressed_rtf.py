"""Decompression of RTF in Outlook messages: LZFu, which [MS-OXRTFCP] describes."""

from __future__ import annotations

import struct

from nearfield.errors import InputError

_COMPRESSED, _PLAIN = b"LZFu", b"MELA"
#: The text that the dictionary has at the start.
_START = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans "
    rb"SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
_SIZE = 4096
#: Maximum number of bytes of the text.
_MAX_BYTES = 2**26


def decompress(data: bytes) -> bytes:
    """Return the RTF text.

    Raises:
        InputError: it is damaged.
    """
    if len(data) < 16:
        raise InputError("The body in RTF is damaged.")
    _, size, kind, _ = struct.unpack_from("<II4sI", data)
    if kind == _PLAIN:
        return data[16 : 16 + size]
    if kind != _COMPRESSED:
        raise InputError("The body in RTF is damaged.")
    window = bytearray(_START.ljust(_SIZE, b"\0"))
    place, at, text = len(_START), 16, bytearray()
    while at < len(data) and len(text) < min(size, _MAX_BYTES):
        flags, at = data[at], at + 1
        for bit in range(8):
            if at >= len(data):
                break
            if not flags >> bit & 1:
                copied, at = bytearray(data[at : at + 1]), at + 1
            else:
                (token,) = struct.unpack(">H", data[at : at + 2].ljust(2, b"\0"))
                offset, length, at = token >> 4, (token & 15) + 2, at + 2
                if offset == place:
                    return bytes(text[:size])
                copied = bytearray()
                for step in range(length):
                    # A reference may run into the bytes that it writes.
                    byte = window[(offset + step) % _SIZE]
                    copied.append(byte)
                    window[(place + step) % _SIZE] = byte
            for step, byte in enumerate(copied):
                window[(place + step) % _SIZE] = byte
            place = (place + len(copied)) % _SIZE
            text += copied
    return bytes(text[:size])

"""Bounds on what a large gRPC message contains, counted before it is parsed."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfield.server.http.content_bounds import ContentBounds

#: Steps after which the count is checked.
_STEPS = 1000


def check_message(data: bytes, descriptor: Any, bounds: ContentBounds) -> None:
    """Check a message of protobuf by the headers of its fields; it need not be valid.

    Args:
        data: the message (https://protobuf.dev/programming-guides/encoding/).
        descriptor: describes the type of the message.
        bounds: the bounds.

    Raises:
        TooLarge: it has too many values.
    """
    fields = descriptor.fields_by_number
    at, size, values, steps = 0, len(data), 0, 0
    try:
        while at < size:
            key, at = _read_number(data, at)
            wire_type = key & 7
            if wire_type == 0:
                _, at = _read_number(data, at)
            elif wire_type == 2:
                length, at = _read_number(data, at)
                field = fields.get(key >> 3)
                if field is not None and field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_INT32):
                    # Packed numbers: each ends with a byte below 128.
                    packed = np.frombuffer(data, np.uint8, max(0, min(length, size - at)), at)
                    values += int(np.count_nonzero(packed < 128))
                at += length
            else:
                at += {1: 8, 5: 4}.get(wire_type, 0)
            values, steps = values + 1, steps + 1
            if steps % _STEPS == 0:
                bounds.check(values=values)
    except IndexError:
        pass  # truncated: the parser reports it
    bounds.check(values=values)


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where the next field starts.

    Raises:
        IndexError: the data ends in it.
    """
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError

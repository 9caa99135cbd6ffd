"""Bounds on what a large body contains, counted before it is decoded: a few bytes may become many objects."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from nearfield.errors import InputError, TooLarge
from nearfield.server.http.limits import RequestLimits

Buffer: TypeAlias = bytes | bytearray
#: Bytes up to which a body is decoded on the event loop without counting: the worst body of that size takes 5 ms.
LARGE_BODY = 65_536
#: Bytes that are counted at once. Other threads run between two of these steps.
_CHUNK = 2**18
_ESCAPE, _QUOTE = b"\\", ord('"')
#: Lists and fields for each input. No API needs more: an input of Qdrant has up to 5 fields and 2 objects, one of
#: Cohere's ``inputs`` 5 lists and objects and 4 fields.
_PER_INPUT = 8
#: Lists, objects and fields beside those of the inputs.
_BESIDE_INPUTS = 1024
#: Values that are not inputs: a request of one million token ids is an honest one.
_MIN_VALUES = 1_000_000
#: Digits for each value, on average. Token ids have up to seven; long numbers are slow to read.
_DIGITS_PER_VALUE = 8


@dataclass(frozen=True)
class ContentBounds:
    """Maximum numbers of what a body may contain, whatever its size."""

    #: Lists and objects.
    containers: int
    #: Items of all lists and objects.
    values: int
    #: Fields of all objects.
    fields: int
    #: Strings, with the names of fields.
    strings: int
    #: Numbers with a fraction or an exponent: they take up to a microsecond each.
    fractions: int
    #: Digits of all numbers.
    digits: int

    @classmethod
    def from_limits(cls, limits: RequestLimits) -> ContentBounds:
        """Return the bounds that follow from the limits of a request."""
        structure = _PER_INPUT * limits.items + _BESIDE_INPUTS
        values = max(_MIN_VALUES, limits.tokens) + _PER_INPUT * limits.items
        return cls(structure, values, structure, 2 * structure, structure, _DIGITS_PER_VALUE * values)

    def check(self, **counts: int) -> None:
        """Check counts by the names of the bounds.

        Raises:
            TooLarge: one is over its bound.
        """
        for field in fields(self):
            most = getattr(self, field.name)
            if counts.get(field.name, 0) > most:
                name = "lists and objects" if field.name == "containers" else field.name
                raise TooLarge(
                    f"The body has more than {most} {name}. Send the inputs in parts, or raise max_items or "
                    "max_request_tokens."
                )


# -- JSON ------------------------------------------------------------------------------------------------------------


def check_json(data: Buffer, bounds: ContentBounds) -> None:
    """Check a JSON text by counting what is outside its strings; it need not be valid.

    Raises:
        TooLarge: it is over a bound.
    """
    counts, fractions, quotes = np.zeros(256, np.int64), 0, 0
    start, inside, size = 0, 0, len(data)
    while start < size:
        end = _end_of_chunk(data, start, min(size, start + _CHUNK))
        chunk = np.frombuffer(data, np.uint8, end - start, start)
        outside, inside, more = _outside_strings(chunk, inside)
        quotes += more
        counts += np.bincount(outside, minlength=256)
        fractions += _count_fractions(outside)
        start = end
        containers = int(counts[ord("[")] + counts[ord("{")])
        bounds.check(
            containers=containers,
            values=int(counts[ord(",")]) + containers,
            fields=int(counts[ord(":")]),
            strings=quotes // 2,
            fractions=fractions,
            digits=int(counts[ord("0") : ord("9") + 1].sum()),
        )


def _end_of_chunk(data: Buffer, start: int, end: int) -> int:
    """Return ``end``, or one more if the chunk would end between a backslash and the character that it escapes."""
    escapes = (end - start) - len(data[start:end].rstrip(_ESCAPE))
    return end + escapes % 2 if end < len(data) else end


def _outside_strings(chunk: np.ndarray, inside: int) -> tuple[np.ndarray, int, int]:
    """Return the bytes outside strings, whether the chunk ends inside one (1 or 0), and the number of quotes.

    ``inside``: whether the chunk starts inside a string.
    """
    quotes = chunk == _QUOTE
    escapes = np.flatnonzero(chunk == ord(_ESCAPE))
    if escapes.size:
        # A run of backslashes escapes the next character if it is of odd length.
        runs = np.flatnonzero(np.diff(escapes, prepend=-2) != 1)
        lengths = np.diff(runs, append=escapes.size)
        escaped = (escapes[runs] + lengths)[lengths % 2 == 1]
        quotes[escaped[escaped < chunk.size]] = False
    count = int(np.count_nonzero(quotes))
    if not count:
        return chunk[: 0 if inside else chunk.size], inside, 0
    within = np.bitwise_xor.accumulate(quotes.view(np.uint8)) ^ inside
    return chunk[within == 0], int(within[-1]), count


def _count_fractions(outside: np.ndarray) -> int:
    """Count decimal points, and exponents that follow a digit: other letters e are those of true and false."""
    points = int(np.count_nonzero(outside == ord(".")))
    exponents = (outside[1:] | 0x20) == ord("e")
    digits = (outside[:-1] - ord("0")) < 10  # below "0" it wraps around to large numbers
    return points + int(np.count_nonzero(exponents & digits))


# -- msgpack ---------------------------------------------------------------------------------------------------------

#: Bytes of msgpack up to which a body is checked and decoded on the event loop: the worst one takes 2 ms.
LARGE_MSGPACK = 2048
#: Steps of the check up to which larger ones are too: a body of texts has few of them. So many take 1 ms.
_LIGHT_STEPS = 1000
#: Numbers that are as much work as a step.
_SCALARS_PER_STEP = 16
#: Numbers, booleans and nulls: https://github.com/msgpack/msgpack/blob/master/spec.md
_SCALAR = rb"(?:[\x00-\x7f\xc0-\xc3\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xca\xce\xd2]....|[\xcb\xcf\xd3]........)"
_ONE_SCALAR, _SCALARS = re.compile(_SCALAR, re.DOTALL), re.compile(_SCALAR + rb"*", re.DOTALL)
#: Byte of a header, and the format of the size that follows: strings, bytes, extensions, lists, objects.
_STRINGS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_LISTS, _OBJECTS = {0xDC: ">H", 0xDD: ">I"}, {0xDE: ">H", 0xDF: ">I"}
_SIZES = {
    byte: struct.Struct(form)
    for kind in (_STRINGS, _BYTES, _EXTENSIONS, _LISTS, _OBJECTS)
    for byte, form in kind.items()
}
#: Bytes that follow a header beside those that its size counts; for strings, bytes and extensions.
_FOLLOWING = {
    **dict.fromkeys((*_STRINGS, *_BYTES), 0),
    **dict.fromkeys(_EXTENSIONS, 1),
    **{byte: byte & 31 for byte in range(0xA0, 0xC0)},
    **{0xD4 + power: 1 + 2**power for power in range(5)},
}
_NAMES = frozenset({*range(0xA0, 0xC0), *_STRINGS})
_COUNTED = frozenset({*range(0xA0, 0xC0), *_STRINGS, *_BYTES})
#: Bytes of scalars that are skipped at once: a pattern takes memory for each of them.
_SCALAR_BYTES = 16_384
#: Steps after which the counts are checked.
_STEPS = 1000


class _Nesting:
    """The position in nested lists and objects."""

    __slots__ = ("_outer", "is_object", "left")

    def __init__(self) -> None:
        #: Items of the innermost list that are still to come, or names and values of the innermost object.
        self.left = 1
        self.is_object = False
        self._outer: list[tuple[int, bool]] = []

    def enter(self, items: int, *, is_object: bool) -> None:
        """Enter a list or an object, which counts as an item itself."""
        self._outer.append((self.left - 1, self.is_object))
        self.left, self.is_object = items, is_object
        self.leave_complete()

    def leave_complete(self) -> None:
        """Leave the lists and objects that have no further items."""
        while not self.left and self._outer:
            self.left, self.is_object = self._outer.pop()

    def skip_scalars(self, count: int) -> None:
        """Pass over numbers, booleans and nulls; they may be the last items of several lists.

        Raises:
            InputError: one is the name of a field.
        """
        while count and self.left:
            if self.is_object and self.left % 2 == 0:
                raise _bad_name()
            skipped = 1 if self.is_object else min(count, self.left)
            count -= skipped
            self.left -= skipped
            self.leave_complete()


def _bad_name() -> InputError:
    return InputError("The body must be an object with names, and all names of fields in it must be strings.")


class _TooManySteps(Exception):
    """The check of a msgpack value takes more steps than were allowed."""


def is_light_msgpack(data: Buffer) -> bool:
    """Return whether a msgpack value has so few headers that it is checked and decoded within 2 ms."""
    try:
        check_msgpack(data, max_steps=_LIGHT_STEPS)
    except _TooManySteps:
        return False
    except InputError:
        pass  # it is refused as fast
    return True


def check_msgpack(data: Buffer, bounds: ContentBounds | None = None, *, max_steps: float = math.inf) -> None:
    """Check a msgpack value by the headers of its lists, objects and strings; it need not be valid.

    The names of fields must be strings. The hashes of tuples and numbers are easy to predict, and an object of 4,600
    names with one hash took more than a second to decode.

    Raises:
        InputError: the name of a field is not a string.
        TooLarge: it is over a bound.
    """
    at, size, nesting = 0, len(data), _Nesting()
    containers = values = names = strings = steps = work = 0
    while at < size and nesting.left:
        if steps + work > max_steps:
            raise _TooManySteps
        scalars = _SCALARS.match(data, at, at + _SCALAR_BYTES)
        if scalars is not None and scalars.end() > at:
            skipped = len(_ONE_SCALAR.findall(data, at, scalars.end()))
            nesting.skip_scalars(skipped)
            at, work = scalars.end(), work + 1 + skipped // _SCALARS_PER_STEP
            continue
        byte = data[at]
        if nesting.is_object and nesting.left % 2 == 0 and byte not in _NAMES:
            raise _bad_name()
        sizes, count, at = _SIZES.get(byte), 0, at + 1
        if sizes is not None:
            if at + sizes.size > size:
                break
            (count,) = sizes.unpack_from(data, at)
            at += sizes.size
        following = _FOLLOWING.get(byte)
        if following is not None:
            at += following + count
            strings += byte in _COUNTED
            nesting.left -= 1
            nesting.leave_complete()
        elif byte >> 5 == 0b100 or byte in _LISTS or byte in _OBJECTS:
            is_object = byte >> 4 == 0x8 or byte in _OBJECTS
            count = byte & 15 if sizes is None else count
            containers, values, names = containers + 1, values + count + 1, names + count * is_object
            nesting.enter(count * (1 + is_object), is_object=is_object)
        else:
            break  # cut off in a number: msgspec reports it
        steps += 1
        if bounds is not None and (steps % _STEPS == 0 or count > _STEPS):
            bounds.check(containers=containers, values=values, fields=names, strings=strings)
    if bounds is not None:
        bounds.check(containers=containers, values=values, fields=names, strings=strings)

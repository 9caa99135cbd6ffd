"""Decode a form that was read whole (multipart/form-data, RFC 7578): its parts in order, texts and bytes of files."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from nearfield.errors import InputError, TooLarge

FORM = "multipart/form-data"
#: Maximum bytes of the headers of one part: reading their parameters takes about a microsecond for each byte.
_MAX_HEADER_BYTES = 2048
_MAX_BOUNDARY = 200


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part of a form.

    Args:
        name: the name of the field; several parts may have the same one.
        data: its bytes.
    """

    name: str
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text, which forms send in UTF-8.

        Raises:
            InputError: they are not UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"The part {self.name!r:.100} of the form is not UTF-8.", param=self.name) from error


def decode_form(data: bytes | bytearray, content_type: str, max_parts: int) -> list[FormPart]:
    """Return the parts of a form in their order.

    Raises:
        InputError: it is malformed or incomplete, or a part has no name.
        TooLarge: it has more than ``max_parts`` parts.
    """
    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        raise InputError(f"The Content-Type of the form must name its boundary: {FORM}; boundary=...")
    # The first boundary may be at the very start; all others follow a line break.
    _, *pieces = (b"\r\n" + data).split(b"\r\n--" + boundary, max_parts + 2)
    if len(pieces) > max_parts + 1:
        raise TooLarge(f"The form has more than {max_parts} parts. Send the inputs in several requests.")
    if not pieces or not pieces[-1].startswith(b"--"):
        raise InputError("The form is incomplete: its last boundary is missing.")
    return [_read_part(piece) for piece in pieces[:-1]]


def _read_part(piece: bytes) -> FormPart:
    # After the boundary there may be spaces (RFC 2046, 5.1.1).
    head, separator, data = piece.partition(b"\r\n\r\n")
    padding, line, headers = head.partition(b"\r\n")
    if not separator or not line or padding.strip(b" \t"):
        raise InputError("The form is malformed: a part has no headers.")
    if len(headers) > _MAX_HEADER_BYTES:
        raise TooLarge(f"The headers of a part of the form have more than {_MAX_HEADER_BYTES} bytes.")
    for header in headers.split(b"\r\n"):
        name, _, value = header.partition(b":")
        if name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value.strip())
            if options.get(b"name"):
                return FormPart(options[b"name"].decode("utf-8", "replace"), data)
    raise InputError("The form is malformed: a part has no name.")

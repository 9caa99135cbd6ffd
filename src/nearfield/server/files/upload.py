"""Upload: a form with one file (multipart/form-data, RFC 7578), handed on bit by bit as it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from nearfield.errors import Cancelled, InputError, TooLarge, UnsupportedMedia
from nearfield.server.files.file_store import in_thread

#: Bytes that are gathered before they are written.
_AT_ONCE = 256 * 1024
#: Bytes of all that is not the file: the other fields, and the lines between.
_MOST_ELSE = 64 * 1024
_MOST_FIELDS = 64


@dataclass
class Form:
    """What a form said beside its file: the fields, and what the client calls the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""


class MultipartUpload:
    """A request's body that is a form, yet to be read."""

    def __init__(self, headers: Mapping[str, str], receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._headers = headers
        self._receive = receive

    async def read(self, write: Callable[[bytes], None], most: int, name: str = "file") -> Form:
        """Read it all; ``write`` gets the bytes of the file called ``name``, in a thread.

        Raises:
            UnsupportedMedia: it is no form.
            TooLarge: the file has more bytes than ``most``.
            InputError: the form is malformed, or has no such file.
            Cancelled: the client left.
        """
        reader = _MultipartReader(self._boundary(), write, most, name)
        claimed = self._headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > most + _MOST_ELSE:
            raise reader.too_large()
        parts: list[bytes] = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client left before its file was whole.")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
            if not more or sum(map(len, parts)) >= _AT_ONCE:
                await in_thread(reader.feed, b"".join(parts))
                parts.clear()
        return reader.end()

    def _boundary(self) -> bytes:
        kind, options = parse_options_header(self._headers.get("content-type", "").encode("latin-1", "replace"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise UnsupportedMedia("The body must be a form with a file: multipart/form-data, with its boundary.")
        encoding = self._headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding != "identity":
            raise UnsupportedMedia(f"The file's Content-Encoding {encoding[:100]!r} is not read: send it as it is.")
        return boundary


class _MultipartReader:
    """Takes a form's bytes in any pieces."""

    def __init__(self, boundary: bytes, write: Callable[[bytes], None], most: int, name: str) -> None:
        self._form = Form()
        self._write = write
        self._most = most
        self._name = name
        self._size = self._rest = 0
        self._found = self._whole = False
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        #: Field that is being read, and its bytes; None for the file.
        self._field: str | None = ""
        self._bytes = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_part,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take what comes next."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InputError(f"The form is malformed: {error}.") from error

    def end(self) -> Form:
        """Return what the form said.

        Raises:
            InputError: it is cut short, or has no file.
        """
        if not self._whole:
            raise InputError("The form is cut short: its last boundary is missing.")
        if not self._found:
            raise InputError(f"The form has no file called {self._name!r}.", param=self._name)
        return self._form

    def too_large(self) -> TooLarge:
        """Say how large a file may be."""
        return TooLarge(f"The file is larger than {self._most} bytes. Send it in parts.", param=self._name)

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bound(end - start)

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound(end - start)

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._bound(1)
        self._bytes.clear()
        self._field = name
        if name == self._name:
            if self._found:
                raise InputError(f"The form has more than one {name!r}.", param=name)
            self._found, self._field = True, None
            self._form.filename = options.get(b"filename", b"").decode("utf-8", "replace")[:512]
        elif len(self._form.fields) >= _MOST_FIELDS:
            raise InputError(f"The form has more than {_MOST_FIELDS} fields.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            self._bound(end - start)
            self._bytes += data[start:end]
            return
        self._size += end - start
        if self._size > self._most:
            raise self.too_large()
        self._write(data[start:end])

    def _on_part_end(self) -> None:
        if self._field is not None:
            self._form.fields[self._field] = self._bytes.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._whole = True

    def _bound(self, more: int) -> None:
        self._rest += more
        if self._rest > _MOST_ELSE:
            raise TooLarge(f"The form's fields are larger than {_MOST_ELSE} bytes.")

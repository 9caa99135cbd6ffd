"""Read an uploaded form with files (multipart/form-data, RFC 7578) as it arrives, without buffering a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from nearfield.errors import Cancelled, InputError, TooLarge, UnsupportedMedia
from nearfield.server.files.file_threads import in_thread

#: Bytes that are buffered before they are written.
_WRITE_SIZE = 256 * 1024
#: Maximum bytes beside the file: other fields, headers and boundaries.
_MAX_OTHER_BYTES = 64 * 1024
_MAX_FIELDS = 64
#: Maximum bytes of a part's Content-Disposition: reading its parameters takes about a microsecond for each byte.
_MAX_DISPOSITION_BYTES = 2048


@dataclass
class Form:
    """The fields of a form beside its files, and the names of the files."""

    fields: dict[str, str] = field(default_factory=dict)
    filenames: list[str] = field(default_factory=list)

    @property
    def filename(self) -> str:
        """The name of the first file."""
        return self.filenames[0]


class MultipartUpload:
    """A request whose body is a form that is not read yet."""

    def __init__(self, headers: Mapping[str, str], receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._headers = headers
        self._receive = receive

    async def read(
        self,
        begin: Callable[[str], Callable[[bytes], None]],
        max_bytes: int,
        name: str = "file",
        *,
        max_files: int = 1,
        run: Callable[[Callable[[bytes], None], bytes], Awaitable[None]] = in_thread,
    ) -> Form:
        """Read the form; its files are the fields called ``name``.

        ``begin`` gets the name of a file, and returns what gets its bytes; ``run`` calls both in a thread.

        Raises:
            UnsupportedMedia: the body is not a form.
            TooLarge: its files have more than ``max_bytes`` bytes together.
            InputError: the form is malformed, or has no such file, or more than ``max_files``.
            Cancelled: the client disconnected.
        """
        reader = _MultipartReader(self._boundary(), begin, max_bytes, name, max_files)
        claimed = self._headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > max_bytes + _MAX_OTHER_BYTES:
            raise reader.too_large()
        waiting = bytearray()
        more, total = True, 0
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client disconnected before its file was complete.")
            part = message.get("body", b"")
            total += len(part)
            if total > max_bytes + _MAX_OTHER_BYTES:
                raise reader.too_large()
            waiting += part
            more = message.get("more_body", False)
            if not more or len(waiting) >= _WRITE_SIZE:
                await run(reader.feed, bytes(waiting))
                waiting.clear()
        return reader.end()

    async def read_bytes(self, write: Callable[[bytes], None]) -> None:
        """Pass the body to ``write``, in a thread, as it arrives: what has arrived is stored if the client leaves.

        Raises:
            UnsupportedMedia: the body is encoded.
            Cancelled: the client disconnected.
        """
        self._require_unencoded()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client disconnected before its file was complete.")
            if message.get("body"):
                await in_thread(write, message["body"])
            more = message.get("more_body", False)

    def _boundary(self) -> bytes:
        kind, options = parse_options_header(self._headers.get("content-type", "").encode("latin-1", "replace"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise UnsupportedMedia("The body must be a form with a file: multipart/form-data, with its boundary.")
        self._require_unencoded()
        return boundary

    def _require_unencoded(self) -> None:
        encoding = self._headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding != "identity":
            raise UnsupportedMedia(
                f"The file's Content-Encoding {encoding[:100]!r} is not supported: send it unencoded."
            )


class _MultipartReader:
    """Parses a form that arrives in pieces."""

    def __init__(
        self,
        boundary: bytes,
        begin: Callable[[str], Callable[[bytes], None]],
        max_bytes: int,
        name: str,
        max_files: int,
    ) -> None:
        self._form = Form()
        self._begin = begin
        self._write: Callable[[bytes], None] | None = None
        self._max_bytes, self._max_files = max_bytes, max_files
        self._name = name
        self._size = self._other_bytes = self._part_count = 0
        self._complete = False
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
        """Parse the next bytes."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InputError(f"The form is malformed: {error}.") from error

    def end(self) -> Form:
        """Return the form.

        Raises:
            InputError: it is incomplete, or has no file.
        """
        if not self._complete:
            raise InputError("The form is incomplete: its last boundary is missing.")
        if not self._form.filenames:
            raise InputError(f"The form has no file called {self._name!r}.", param=self._name)
        return self._form

    def too_large(self) -> TooLarge:
        """Return the error for a file that is too large."""
        return TooLarge(f"The file is larger than {self._max_bytes} bytes. Send it in parts.", param=self._name)

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._count_other(end - start)

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count_other(end - start)

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_part(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        if len(disposition) > _MAX_DISPOSITION_BYTES:
            raise InputError(f"A Content-Disposition of the form has more than {_MAX_DISPOSITION_BYTES} bytes.")
        _, options = parse_options_header(disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._part_count += 1
        if self._part_count > _MAX_FIELDS + self._max_files:
            raise InputError(f"The form has more than {_MAX_FIELDS} fields.")
        self._bytes.clear()
        self._field = name
        if name == self._name:
            if len(self._form.filenames) == self._max_files:
                most = "one" if self._max_files == 1 else self._max_files
                raise InputError(f"The form has more than {most} {name!r}.", param=name)
            self._form.filenames.append(options.get(b"filename", b"").decode("utf-8", "replace")[:512])
            self._field, self._write = None, self._begin(self._form.filenames[-1])

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None or self._write is None:
            self._count_other(end - start)
            self._bytes += data[start:end]
            return
        self._size += end - start
        if self._size > self._max_bytes:
            raise self.too_large()
        self._write(data[start:end])

    def _on_part_end(self) -> None:
        if self._field is not None:
            self._form.fields[self._field] = self._bytes.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._complete = True

    def _count_other(self, more: int) -> None:
        self._other_bytes += more
        if self._other_bytes > _MAX_OTHER_BYTES:
            raise TooLarge(f"The form's fields are larger than {_MAX_OTHER_BYTES} bytes.")

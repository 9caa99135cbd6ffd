"""Extractors that hang, crash, take all memory, print and raise, as parsers do at their worst."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.errors import InputTooLong, MissingExtra


class Hanging(Extractor):
    """Never ends."""

    def parse(self, data: bytes, name: str) -> Document:
        """Wait for what does not come."""
        while True:
            time.sleep(1)


class Paged(Extractor):
    """Takes 2.5 seconds a page; a negative number of pages never ends."""

    def parse(self, data: bytes, name: str) -> Document:
        """Report each page."""
        pages = int(data)
        for _ in range(pages):
            time.sleep(2.5)
            self.on_page()
        if pages < 0:
            time.sleep(1000)
        return Document(f"{pages} pages, {self.options.ocr}")


class Crashing(Extractor):
    """Takes its process with it."""

    def parse(self, data: bytes, name: str) -> Document:
        """End as a segmentation fault would."""
        os.abort()


class Greedy(Extractor):
    """Takes all memory."""

    def parse(self, data: bytes, name: str) -> Document:
        """Hold more than there is room for."""
        return Document(str(len(bytearray(2**33))))


class Wrong(Extractor):
    """Has a bug."""

    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Raise what no extractor should."""
        raise KeyError("word")


class Where(Extractor):
    """Reports which process it runs in, once for each call."""

    def parse(self, data: bytes, name: str) -> Document:
        """Return the number of the process."""
        with Path(name).open("a") as file:
            file.write("asked\n")
        return Document(str(os.getpid()), title="\ud800 title", meta={"number": 1, "share": 0.5, "yes": True})


class Printing(Extractor):
    """Prints to standard output."""

    def parse(self, data: bytes, name: str) -> Document:
        """Print what looks like a reply, by Python and past it."""
        sys.stdout.write('{"error": "InputError"}\n')
        sys.stdout.flush()
        os.write(1, b"noise\n")
        return Document("text")


class Refusing(Extractor):
    """Raises errors of the package."""

    def parse(self, data: bytes, name: str) -> Document:
        """Raise the error that ``data`` names."""
        if data == b"extra":
            raise MissingExtra("It needs a library.")
        raise InputTooLong("It is too long.", param="text")

"""The text of pictures that Office files and books embed, by OCR, in bounded numbers; each picture is read once."""

from __future__ import annotations

import hashlib
import io
import posixpath
from dataclasses import replace

from nearfield.corpus.document import Block, Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.attached_files import read_embedded
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.picture import PictureExtractor
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.media.formats import find_format
from nearfield.message_text import count_of

#: Suffixes of pictures that OCR reads; drawings such as EMF are not among them.
PICTURE_SUFFIXES = frozenset(PictureExtractor.suffixes)
#: Pictures of a document that are read, and bytes of one of them.
MAX_PICTURES, MAX_PICTURE_BYTES = 1000, 2**26
#: Pixels of the shorter side of the smallest picture that may have a line of text.
_MIN_SIDE = 24


class PictureTexts:
    """Adds the text of embedded pictures to a document, with the options of ``outer``; nothing without OCR."""

    def __init__(self, outer: Extractor) -> None:
        self._outer = outer
        #: Whether each picture has text, by the digest of its bytes.
        self._seen: dict[bytes, bool] = {}
        self._left_out = 0
        #: Words that were added.
        self.words = 0

    def put(self, builder: DocumentBuilder, data: bytes, name: str, page: int | None = None) -> bool:
        """Add the text of a picture; return whether it has any, here or where it was before.

        Raises:
            MissingExtra: the packages of the extra ``ocr`` are missing.
        """
        if not self._outer.options.ocr or not data or posixpath.splitext(name)[1].lower() not in PICTURE_SUFFIXES:
            return False
        digest = hashlib.sha256(data).digest()
        if digest not in self._seen:
            if len(self._seen) >= MAX_PICTURES or len(data) > MAX_PICTURE_BYTES:
                self._left_out += 1
                return False
            self._seen[digest] = self._read(builder, data, name, page)
        return self._seen[digest]

    def _read(self, builder: DocumentBuilder, data: bytes, name: str, page: int | None) -> bool:
        if _is_small(data):
            return False
        try:
            document = read_embedded(data, name, self._outer, page=page)
        except InputError:  # damaged, too large, or without text
            return False
        builder.append(_within(document, page))
        self.words += count_words(document.text)
        return True

    def losses(self) -> list[Loss]:
        """Return the loss of pictures beyond the limits."""
        if not self._left_out:
            return []
        return [
            Loss(f"the text of {count_of(self._left_out, 'further picture')}, beyond {MAX_PICTURES:,}, or too large")
        ]


def _is_small(data: bytes) -> bool:
    """Return whether a picture is an icon. A header that cannot be read is not: its reader says what it is."""
    from PIL import Image

    kind = find_format(data)
    if kind is None:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as picture:
            return min(picture.size) < _MIN_SIDE
    except Exception:  # noqa: BLE001 - decoders raise anything for a damaged file
        return False


def _within(document: Document, page: int | None) -> Document:
    """Return the document of a picture as a part of another: its headings are none of that."""
    blocks = tuple(_plain(block) for block in document.blocks)
    losses = tuple(replace(loss, pages=(page,) if page else loss.pages) for loss in document.losses)
    return replace(document, blocks=blocks, losses=losses)


def _plain(block: Block) -> Block:
    return replace(block, kind="paragraph", level=0) if block.kind == "heading" else block

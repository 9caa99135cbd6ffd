"""Searches of the media demo, each with the place that it should find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.cli.demo.generated_media import SCENE_SECONDS, SCENES
from nearfield.cli.demo.samples import SCAN

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from nearfield.corpus.collection import Collection
    from nearfield.corpus.search.content.query import SearchQuery
    from nearfield.corpus.search.hit import SearchHit

#: Shares of a picture that a copy lacks at each edge, and how much brighter it is.
_CROP, _BRIGHTER = 0.05, 1.25
#: The part of a sound that is searched for, as shares of its length.
_PART = (0.2, 0.7)
#: The second of each scene whose frame is searched for.
_MOMENT = 1.5


@dataclass(frozen=True)
class Find:
    """A search, and the file that it should find first, there the page or the second if it has them.

    ``means`` says what compares the query with the files; ``mode`` is that of ``Collection.search``.
    """

    question: str
    query: SearchQuery
    means: str
    file: str
    page: int | None = None
    second: float | None = None
    mode: str = "auto"

    @property
    def expected(self) -> str:
        """The file and the place for people."""
        from nearfield.units import format_clock

        place = "" if self.second is None else format_clock(self.second)
        place = f"page {self.page}" if self.page is not None else place
        return ", ".join(part for part in (self.file, place) if part)

    def run(self, collection: Collection) -> FindResult:
        """Search for it."""
        hits = collection.search(self.query, 1, mode=self.mode)
        return FindResult(self, hits[0] if hits else None)


@dataclass(frozen=True)
class FindResult:
    """The best hit of a search, if there is one."""

    find: Find
    hit: SearchHit | None

    @property
    def is_right(self) -> bool:
        """Whether the hit is the file, and there the page and the second, that was expected."""
        hit, find = self.hit, self.find
        if hit is None or hit.fields["path"] != find.file:
            return False
        if find.page is not None and not (hit.page or 0) <= find.page <= (hit.last_page or hit.page or 0):
            return False
        return find.second is None or (hit.start_time or 0.0) <= find.second < (hit.end_time or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        hit, find = self.hit, self.find
        return {
            "question": find.question,
            "means": find.means,
            "expected": {"file": find.file, "page": find.page, "second": find.second},
            "found": None if hit is None else hit.to_dict(),
            "right": self.is_right,
        }


def by_words(words: Iterable[tuple[str, str]], means: str) -> Iterator[Find]:
    """Yield searches for files by texts that describe them; pairs of both."""
    for file, text in words:
        yield Find(f'"{text}"', text, means, file)


def by_copies(paths: Sequence[Path], means: str) -> Iterator[Find]:
    """Yield searches for pictures by copies of them that are cropped and brighter."""
    from PIL import Image as Pillow

    from nearfield.media.image import Image

    for path in paths:
        with Pillow.open(path) as picture:
            copy = _brighter_crop(picture.convert("RGB"))
        yield Find(f"crop of {path.name}", Image(copy), means, path.name)


def by_pages(path: Path, means: str) -> Iterator[Find]:
    """Yield searches for the pages of a PDF by brighter crops of them."""
    from PIL import Image as Pillow

    from nearfield.media.image import Image
    from nearfield.media.picture.pdf_pages import PdfPageImage

    for page in range(1, len(SCAN) + 1):
        copy = _brighter_crop(Pillow.fromarray(PdfPageImage(path, page).read().pixels))
        yield Find(f"crop of {path.name}, page {page}", Image(copy), means, path.name, page=page)


def _brighter_crop(picture: PillowImage) -> PillowImage:
    from PIL import ImageEnhance

    width, height = picture.size
    left, top = round(_CROP * width), round(_CROP * height)
    return ImageEnhance.Brightness(picture.crop((left, top, width - left, height - top))).enhance(_BRIGHTER)


def by_parts(paths: Sequence[Path], means: str) -> Iterator[Find]:
    """Yield searches for sounds by a part of each."""
    from nearfield.media.audio import Audio

    for path in paths:
        seconds = Audio(path).header().seconds
        start, end = (share * seconds for share in _PART)
        yield Find(
            f"part of {path.name}, {start:.1f} to {end:.1f} s", Audio(path, start=start, end=end), means, path.name
        )


def by_frames(path: Path, means: str) -> Iterator[Find]:
    """Yield searches for the seconds of the video by a frame of each scene."""
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video

    for second in _moments():
        frame = Image(Video(path).thumbnail(second))
        yield Find(f"frame of {path.name}, {second:g} s", frame, means, path.name, second=second)


def by_scenes(path: Path, means: str) -> Iterator[Find]:
    """Yield searches for the seconds of the video by texts that describe its scenes."""
    for words, second in zip(SCENES, _moments(), strict=True):
        yield Find(f'"{words}"', words, means, path.name, second=second)


def _moments() -> list[float]:
    return [number * SCENE_SECONDS + _MOMENT for number in range(len(SCENES))]


def by_keywords(words: Iterable[tuple[str, int | None]], means: str, file: str) -> Iterator[Find]:
    """Yield searches for words in a scan or in speech; pairs of the words and their page."""
    for text, page in words:
        yield Find(f'"{text}"', text, means, file, page=page, mode="bm25")

"""`MixedContent`: one input of several parts, such as a text and a picture, for models that read them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video

MediumT = TypeVar("MediumT", bound=Image | Audio | Video)


@dataclass(frozen=True, slots=True)
class MixedContent:
    """One input of several parts, in the order in which the caller gives them: texts, pictures, sounds and videos."""

    parts: tuple[str | Image | Audio | Video, ...]

    @property
    def text(self) -> str:
        """The texts, one after the other."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def media(self) -> tuple[Image | Audio | Video, ...]:
        """The parts that are no texts."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    def parts_of(self, kind: type[MediumT]) -> tuple[MediumT, ...]:
        """Return the parts of one class, in order."""
        return tuple(part for part in self.parts if isinstance(part, kind))

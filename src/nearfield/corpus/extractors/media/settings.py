"""``SegmentSettings``: how sounds and videos are cut into segments; and what a collection reads of media files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from nearfield.corpus.extractors.media.kinds import KINDS_BY_TYPE
from nearfield.media.segmentation import SplitRule

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
#: Raised when segments, or how they are decoded, change although no setting does.
_FORMAT = 1


class SoundSegments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Segments of sounds: equal parts by ``time``, or parts between silences, none longer than the maximum."""

    split_method: Literal["time", "silence"] = "time"
    time_split_interval: _Seconds = 10.0
    max_segment_duration: _Seconds = 30.0

    @property
    def rule(self) -> SplitRule:
        """The rule by which sounds are cut."""
        return SplitRule(self.split_method, self.time_split_interval, self.max_segment_duration)


class VideoSegments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Segments of videos: equal parts by ``time``, scenes, or parts between silences, none longer than the maximum.

    ``fps`` and ``max_frames`` are the frames that the model reads of each second and of each segment; None: as many as
    it was trained with.
    """

    split_method: Literal["time", "scene", "silence"] = "time"
    time_split_interval: _Seconds = 10.0
    max_segment_duration: _Seconds = 30.0
    fps: Annotated[float, msgspec.Meta(gt=0, le=120)] | None = None
    max_frames: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None

    @property
    def rule(self) -> SplitRule:
        """The rule by which videos are cut."""
        return SplitRule(self.split_method, self.time_split_interval, self.max_segment_duration)


class SegmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How sounds and videos are cut into segments, which are chunks."""

    audio: SoundSegments = SoundSegments()
    video: VideoSegments = VideoSegments()


@dataclass(frozen=True)
class MediaScope:
    """What a collection reads of media files.

    Args:
        kinds: the kinds of chunks of media that its features read.
        settings: how sounds and videos are cut.
    """

    kinds: tuple[str, ...] = ()
    settings: SegmentSettings = SegmentSettings()  # noqa: RUF009 - it is frozen

    def kinds_of(self, media_type: str) -> Sequence[str]:
        """Return the kinds of chunks that it reads of a type of files."""
        return [kind for kind in KINDS_BY_TYPE.get(media_type, ()) if kind in self.kinds]

    @cached_property
    def types(self) -> frozenset[str]:
        """The types of files that it reads."""
        return frozenset(name for name in KINDS_BY_TYPE if self.kinds_of(name))

    def salts(self) -> dict[str, str]:
        """Return by kind of chunks the settings that their vectors depend on, besides their places in a file."""
        frames = {"fps": self.settings.video.fps, "max_frames": self.settings.video.max_frames}
        return {**dict.fromkeys(self.kinds, f"{_FORMAT}"), "video": json.dumps([_FORMAT, frames])}

    def identity(self, media_type: str) -> str:
        """Return a digest of all that changes the segments of a type of files; empty if it has none."""
        kinds = self.kinds_of(media_type)
        if not kinds:
            return ""
        cut: Any = [msgspec.to_builtins(getattr(self.settings, kind)) for kind in kinds if kind in ("audio", "video")]
        return hashlib.sha256(json.dumps([_FORMAT, list(kinds), cut], sort_keys=True).encode()).hexdigest()[:16]

"""Formats of files of pictures, videos and sounds, and the suffixes by which they are searched."""

from __future__ import annotations

from collections.abc import Mapping

#: Names of the formats, as ``--format`` takes them.
PICTURES, VIDEOS, SOUNDS = "image", "video", "audio"
#: Suffixes of each, in the order in which a folder is taken for one of them.
MEDIA_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    PICTURES: (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    VIDEOS: (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".m2ts", ".3gp"),
    SOUNDS: (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64"),
}
#: Archives of media.
TAR_SUFFIXES = (".tar",)
#: What a file of each is called.
MEDIA_NOUNS: Mapping[str, str] = {PICTURES: "picture", VIDEOS: "video", SOUNDS: "sound"}

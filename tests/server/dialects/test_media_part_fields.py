"""Fields of media parts in each API: unknown ones are refused by name, and those without effect are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nearfield.server.dialects.bedrock.nova import NovaSource
from nearfield.server.dialects.cohere.schemas import CohereContent
from nearfield.server.dialects.google.gemini import GeminiPart
from nearfield.server.dialects.google.vertex import VertexImage
from nearfield.server.dialects.native.schemas import NativePart
from nearfield.server.dialects.openai.schemas import ChatPart
from nearfield.server.dialects.sie.schemas import SieImage, SieSound
from nearfield.server.dialects.voyage import VoyageContentPart

URI = "data:image/png;base64,AAAA"
#: A type of each API, and a part that changes a result in other servers, by the field that is not read.
REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "min_pixels": (ChatPart, {"type": "image_url", "image_url": {"url": URI, "min_pixels": 1}}),
    "max_pixels": (ChatPart, {"type": "image_url", "image_url": {"url": URI}, "max_pixels": 1}),
    "fps": (ChatPart, {"type": "video_url", "video_url": {"url": URI, "fps": 1}}),
    "start": (ChatPart, {"type": "input_audio", "input_audio": {"data": "AAAA", "start": 1}}),
    "end": (ChatPart, {"type": "audio_url", "audio_url": {"url": URI, "end": 1}}),
    "crop": (CohereContent, {"type": "image_url", "image_url": {"url": URI, "crop": 1}}),
    "image_base64": (CohereContent, {"type": "image_url", "image_base64": URI}),
    "video_fps": (VoyageContentPart, {"type": "video_url", "video_url": URI, "video_fps": 1}),
    "resolution": (GeminiPart, {"inline_data": {"data": "AAAA", "resolution": "low"}}),
    "video_metadata": (GeminiPart, {"inline_data": {"data": "AAAA"}, "video_metadata": {"fps": 1}}),
    "region": (VertexImage, {"bytesBase64Encoded": "AAAA", "region": []}),
    "offset": (NovaSource, {"bytes": "AAAA", "offset": 1}),
    "size": (SieImage, {"data": b"x", "size": 1}),
    "seconds": (SieSound, {"data": b"x", "seconds": 1}),
    "frames": (NativePart, {"video": b"x", "frames": 1}),
}
#: Parts as clients of these APIs send them, with fields that change no vector.
READ: list[tuple[Any, dict[str, Any]]] = [
    (ChatPart, {"type": "image_url", "image_url": {"url": URI, "detail": "auto"}, "uuid": "photo-1"}),
    (ChatPart, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    (CohereContent, {"type": "image_url", "image_url": {"url": URI, "detail": "low"}}),
    (GeminiPart, {"inlineData": {"data": "AAAA", "mimeType": "image/png", "displayName": "photo"}}),
    (SieSound, {"data": b"x", "format": "wav", "sample_rate": 16_000}),
]


@pytest.mark.parametrize("field", REFUSED)
def test_an_unknown_field_of_a_part_is_refused_by_name(field: str) -> None:
    kind, part = REFUSED[field]
    with pytest.raises(msgspec.ValidationError, match=f"unknown field `{field}`"):
        msgspec.convert(part, kind)


@pytest.mark.parametrize(("kind", "part"), READ)
def test_fields_without_effect_are_read(kind: Any, part: dict[str, Any]) -> None:
    assert isinstance(msgspec.convert(part, kind), kind)

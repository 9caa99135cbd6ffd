"""What a model of texts says of pictures, sounds and videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from nearfield.errors import InputError
from nearfield.inference.preparation.inputs import list_inputs
from nearfield.server.exchange.picture_inputs import bytes_from_text
from tests.support import bad_media

SOUND = bad_media.wav(8000, 1, [0.0] * 8)


@pytest.mark.parametrize("inputs", ["path", "bytes", "list"])
@pytest.mark.parametrize(("data", "kind"), [(bad_media.PHOTO, "picture"), (SOUND, "sound"), (b"plain", "")])
def test_a_file_is_named_by_its_first_bytes(inputs: str, data: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    value: Any = {"path": path, "bytes": data, "list": ["a", path]}[inputs]
    with pytest.raises(InputError) as caught:
        list_inputs(value)
    if kind:
        assert f" is a {kind}, and texts alone are read" in str(caught.value)
        assert 'modalities=("text",)' in str(caught.value)
    else:
        assert ("decode" if inputs == "bytes" else "path.read_text()") in str(caught.value)


def test_a_path_that_is_none_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="read_text"):
        list_inputs(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="open file"):
        list_inputs(io.BytesIO(b""))


@pytest.mark.parametrize("path", ["photos/red.jpg", "C:\\\\clips\\\\a b.mp4", "bell.wav"])
def test_a_server_reads_no_paths(path: str) -> None:
    with pytest.raises(InputError, match=r"is not base64: .* A server reads no paths: send the bytes"):
        bytes_from_text(path, 1000, "Input 0")
    with pytest.raises(InputError, match=r"character '!' at position 3\.$"):
        bytes_from_text("abc!", 1000, "Input 0")

"""Small pictures in terminals: which terminals get them, and that the sequences are the picture."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.cli.terminal import passages
from nearfield.cli.thumbnails.protocols import LINES, PROTOCOLS
from nearfield.cli.thumbnails.terminal_choice import choose_protocol
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import InputError

Image = pytest.importorskip("PIL.Image")


def picture() -> Array:
    """Return a picture of noise, beside areas of one colour, [height, width, 3]; its height is no multiple of six."""
    pixels = np.zeros((47, 60, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:40] = (255, 0, 51), (0, 204, 255)
    pixels[:, 40:] = 51 * np.random.default_rng(0).integers(0, 6, (47, 20, 1))
    return pixels


def decoded_kitty(text: str) -> Array:
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) == text
    assert [keys.rpartition("m=")[2] for keys, _ in parts] == ["1"] * (len(parts) - 1) + ["0"]
    assert parts[0][0].startswith(f"a=T,f=100,q=2,r={LINES},") and all(len(data) <= 4096 for _, data in parts)
    return read(base64.b64decode("".join(data for _, data in parts)))


def decoded_iterm(text: str) -> Array:
    match = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);height=6;preserveAspectRatio=1:([^\a]*)\a", text)
    assert match is not None
    data = base64.b64decode(match[2])
    assert len(data) == int(match[1])
    return read(data)


def decoded_sixel(text: str) -> Array:
    match = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', text)
    assert match is not None
    pixels = np.zeros((int(match[2]), int(match[1]), 3), np.uint8)
    palette: dict[str, Array] = {}
    top = left = 0
    colour = ""
    for number, share, count, letter, mark in re.findall(
        r"#(\d+)(?:;2;(\d+;\d+;\d+))?|(?:!(\d+))?([?-~])|([$-])", match[3]
    ):
        if share:
            palette[number] = np.round(np.array(share.split(";"), float) * 2.55).astype(np.uint8)
        elif number:
            colour = number
        elif letter:
            for row in (bit for bit in range(6) if (ord(letter) - 63) >> bit & 1):
                pixels[top + row, left : left + int(count or 1)] = palette[colour]
            left += int(count or 1)
        else:
            top, left = top + 6 * (mark == "-"), 0
    return pixels


def read(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("protocol", "decoded"), [("kitty", decoded_kitty), ("iterm", decoded_iterm), ("sixel", decoded_sixel)]
)
def test_sequences_are_the_picture(protocol: str, decoded: Callable[[str], Array]) -> None:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "PNG")
    result = decoded(PROTOCOLS[protocol](file.getvalue()))
    assert result.shape == (47, 60, 3)
    assert np.abs(result.astype(int) - picture()).max() <= (1 if protocol == "sixel" else 0)


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({}, None),
    ],
)
def test_the_terminal_is_known_by_its_environment(environment: Mapping[str, str], protocol: str | None) -> None:
    assert choose_protocol("auto", environment, is_terminal=True) == protocol
    assert choose_protocol("sixel", environment, is_terminal=True) == "sixel"
    assert choose_protocol("never", environment, is_terminal=True) is None
    assert choose_protocol("kitty", environment, is_terminal=False) is None, "a file or a program reads it"
    with pytest.raises(InputError, match="kitty"):
        choose_protocol("kity", environment)


def test_results_with_and_without_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    hits = [SearchHit(key, f"files:/a#{key}.png", 0.9, "", kind="image") for key in ("one", "two")]
    passages.show(hits, thumbnails={"one": "\x1b_Ga=T;\x1b\\"})
    shown = capsys.readouterr().out
    assert shown.index("one.png") < shown.index("\x1b_Ga=T;\x1b\\") < shown.index("two.png")
    passages.show(hits)
    assert "\x1b" not in capsys.readouterr().out

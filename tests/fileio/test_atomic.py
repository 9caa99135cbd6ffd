"""Atomic writes: the new content or the old one, and nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearfield.fileio.atomic import atomic_file, atomic_text_file, write_atomic


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path, durable: bool, shared: bool) -> None:
    path = tmp_path / "value.json"
    for content in (b"old", b"new"):
        write_atomic(path, content, durable=durable, shared=shared)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value"
    write_atomic(path, "old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    with atomic_text_file(tmp_path / "text") as file:
        file.writelines(["é\n", "b\r\n"])
    assert (tmp_path / "text").read_bytes() == "é\nb\r\n".encode()


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "value", b"", shared=True)
    finally:
        os.umask(before)
    assert (tmp_path / "value").stat().st_mode & 0o777 == 0o644

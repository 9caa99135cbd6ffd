"""Folders that appear whole, or not at all; what was there before the block stays."""

from errno import ENOSPC
from pathlib import Path

import pytest

from nearfield.errors import InputError, StorageFull
from nearfield.fileio.whole_folder import require_new_folder, whole_folder


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "deep" / "new") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "deep" / "new").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]
    assert (tmp_path / "deep" / "new" / "a").read_text() == "1"


def test_an_empty_folder_stays_the_same_folder(tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    before = place.stat().st_ino
    with whole_folder(place) as partial:
        (partial / "a").write_text("1")
    assert place.stat().st_ino == before
    assert [path.name for path in place.iterdir()] == ["a"]


def _interrupted(place: Path, cause: BaseException) -> None:
    with whole_folder(place) as partial:
        (partial / "a").write_text("1")
        raise cause


@pytest.mark.parametrize(
    ("cause", "error", "message"),
    [
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (OSError(ENOSPC, "full"), StorageFull, "run the command again.$"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_block_that_raises_leaves_nothing(
    tmp_path: Path, is_there: bool, cause: BaseException, error: type[BaseException], message: str
) -> None:
    place = tmp_path / "new"
    if is_there:
        place.mkdir()
    with pytest.raises(error, match=message):
        _interrupted(place, cause)
    assert place.exists() is is_there
    assert [path for path in tmp_path.rglob("*") if path != place] == []


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with whole_folder(tmp_path / "link") as partial:
        (partial / "a").write_text("1")
    assert (tmp_path / "elsewhere" / "a").read_text() == "1"
    assert (tmp_path / "link").is_symlink()


def test_what_is_there_already_is_refused_and_a_check_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("", "file"):
        with pytest.raises(InputError, match="is there already, and is not empty"):
            require_new_folder(tmp_path / name)
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        require_new_folder(tmp_path / "file" / "below")
    require_new_folder(tmp_path / "deep" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""Locks: they exclude holders of a plain ``flock``, as version 0.1 takes it, and keep the lock file as it was."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nearfield.fileio.locks import exclusive_lock, reentrant_lock, release_lock, try_lock, waiting_lock


class _BusyError(Exception):
    pass


def test_a_lock_excludes_plain_flock_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert try_lock(path) is None
    with exclusive_lock(path, _BusyError), path.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_file_keeps_inode_mode_and_content(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"content")
    path.chmod(0o640)
    before = path.stat()
    with reentrant_lock(path, _BusyError):
        pass
    after = path.stat()
    assert (after.st_ino, after.st_ctime_ns, after.st_mode) == (before.st_ino, before.st_ctime_ns, before.st_mode)
    assert path.read_bytes() == b"content"


def test_a_reentrant_lock_is_free_again_after_the_outer_block_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with reentrant_lock(path, _BusyError):
        with reentrant_lock(path, _BusyError):
            pass
        assert try_lock(path) is None
    file = try_lock(path)
    assert file is not None
    release_lock(file)
    assert try_lock(path) is not None


def test_a_reentrant_lock_excludes_other_threads(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def take() -> None:
        try:
            with reentrant_lock(tmp_path / "lock", _BusyError):
                pass
        except _BusyError as error:
            errors.append(error)

    with reentrant_lock(tmp_path / "lock", _BusyError):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_shared_locks_exclude_an_exclusive_one_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with waiting_lock(path, shared=True), waiting_lock(path, shared=True):
        assert try_lock(path) is None
    with waiting_lock(path):
        assert try_lock(path) is None


def test_a_removed_lock_file_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive_lock(path, _BusyError, remove=True):
        assert path.exists()
    assert not path.exists()


_FORK = """
import os, sys
from pathlib import Path
from nearfield.fileio.locks import exclusive_lock, reentrant_lock, release_lock, try_lock, waiting_lock

path, other = Path(sys.argv[1]) / "lock", Path(sys.argv[1]) / "other"
blocks = {
    "exclusive": lambda: exclusive_lock(path, RuntimeError, remove=True),
    "reentrant": lambda: reentrant_lock(path, RuntimeError),
    "waiting": lambda: waiting_lock(path),
}
child, mine = None, None
with blocks[sys.argv[2]]():
    child = os.fork()
    if not child:
        # It has the number that the parent's lock has there.
        mine = try_lock(other)
        assert mine is not None
    else:
        assert os.waitpid(child, 0)[1] == 0
        assert try_lock(path) is None and path.exists()
if not child:
    # The end of the block neither removed the parent's file nor released the lock of the child.
    assert path.exists()
    assert try_lock(other) is None
    release_lock(mine)
    assert try_lock(other) is not None
    os._exit(0)
assert path.exists() == (sys.argv[2] != "exclusive")
"""


@pytest.mark.process
@pytest.mark.parametrize("kind", ["exclusive", "reentrant", "waiting"])
def test_the_end_of_a_block_in_a_forked_process_leaves_all_locks_alone(kind: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _FORK, str(tmp_path), kind], check=True, timeout=60)

"""Two runs that write the same output: the second is refused, and a crash leaves the output unlocked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nearfield.bulk.file_job import FileJob, output_lock
from nearfield.bulk.text_source import TextSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError

_HOLD = """
import sys, time
from pathlib import Path
from nearfield.bulk.file_job import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def job(tmp_path: Path, tiny: Encoder) -> FileJob:
    (tmp_path / "a.txt").write_text("the cat\n", encoding="utf-8")
    return FileJob(tiny, TextSource((tmp_path / "a.txt",)), tmp_path / "out.npy", {})


@pytest.mark.process
@pytest.mark.slow
def test_a_second_run_is_refused_until_the_first_ends_however_it_does(tmp_path: Path, job: FileJob) -> None:
    output = tmp_path / "out.npy"
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"out\.npy is being written by another run"):
            job.run()
        assert not (tmp_path / "out.npy.partial").exists()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert (tmp_path / "out.npy.lock").exists()
    assert job.run().texts == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out.npy", "out.npy.json"]


def test_other_outputs_are_not_locked(tmp_path: Path, job: FileJob) -> None:
    with output_lock(tmp_path / "other.npy"):
        assert job.run().texts == 1


def test_a_run_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError), output_lock(tmp_path / "out.npy"):
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_never_two_at_once(tmp_path: Path) -> None:
    """Each run removes the lock file: a run that opened it before must not take the removed file for the lock."""
    output, inside, most, done = tmp_path / "out.npy", [0], [0], [0]

    def work() -> None:
        for _ in range(300):
            try:
                with output_lock(output):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    done[0] += 1
                    inside[0] -= 1
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert done[0] > 100

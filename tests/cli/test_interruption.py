"""Ctrl-C and SIGTERM during ``nearfield embed``: the exit status, what is said, and that the same command continues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearfield import Encoder
from nearfield.cli.terminal.interruption import continued_later

#: Runs the command; each shard takes a moment, so that a signal arrives between two.
_CODE = """
import time
from nearfield.bulk.shard_encoder import ShardEncoder
write = ShardEncoder.write
def slow(self, *rest):
    time.sleep(0.5)
    return write(self, *rest)
ShardEncoder.write = slow
from nearfield.cli import main
main()
"""
_SECONDS = 120


def test_sigterm_ends_a_block_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    def receive_sigterm() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, continued_later():
        receive_sigterm()
    assert ended.value.code == 143
    assert "ended by SIGTERM. What is complete stays. The same command continues" in capsys.readouterr().err

    def replace_exit() -> None:
        with pytest.raises(SystemExit):
            receive_sigterm()
        raise SystemExit(1)  # as Ray does

    with pytest.raises(SystemExit) as replaced, continued_later():
        replace_exit()
    assert replaced.value.code == 143
    assert "ended by SIGTERM" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt), continued_later():
        raise KeyboardInterrupt
    assert "interrupted. What is complete stays. The same command continues" in capsys.readouterr().err
    with pytest.raises(SystemExit), continued_later():
        raise SystemExit(3)
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "how"), [(2, 130, "interrupted"), (15, 143, "ended by SIGTERM")])
def test_a_run_that_was_ended_is_continued_by_the_same_command(
    tiny: Encoder, tmp_path: Path, number: int, status: int, how: str
) -> None:
    rows = [json.dumps({"id": at, "text": "the cat sat"}) for at in range(100)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    words = ["embed", "rows.jsonl", "-o", "out/", "--model", str(tiny.recipe.folder), "--id-field", "id", "--json"]
    command = [sys.executable, "-c", _CODE, *words, "--shard-rows", "5", "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        limit = time.monotonic() + _SECONDS
        while not list(tmp_path.glob("out/_shards/0*.json")) and run.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        run.send_signal(number)
        _, error = run.communicate(timeout=_SECONDS)
    assert run.returncode == status, error
    assert error == f"nearfield: {how}. What is complete stays. The same command continues where it stopped.\n"
    records = len(list(tmp_path.glob("out/_shards/0*.json")))
    again = [sys.executable, "-m", "nearfield.cli", *words, "--shard-rows", "5", "--quiet"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=_SECONDS)
    report = json.loads(done.stdout)
    assert 0 < report["skipped"] == records < 20 and report["state"] == "complete"

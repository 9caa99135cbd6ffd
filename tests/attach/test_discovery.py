"""Servers that are found by their files: those of this user that run on this machine, and nothing else."""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from nearfield import errors
from nearfield.attach import attached_client, open_encoder, server_choice
from nearfield.attach.attached_encoder import AttachedEncoder
from nearfield.attach.server_files import (
    ServerRecord,
    WrittenRecord,
    live_servers,
    machine_name,
    write_record,
)
from nearfield.encoder import Encoder
from nearfield.testing import write_tiny_model
from tests.support.serving import Process, serving

ADDRESS = "http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of this test; lines on stderr are written again."""
    for name in ("run", "cache"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NEARFIELD_SERVER", "auto")
    monkeypatch.setattr(server_choice, "_written", set())
    return tmp_path / "run" / "nearfield" / "servers"


@pytest.fixture
def record() -> Iterator[WrittenRecord]:
    """The file of a server of this process."""
    written = write_record(_record())
    yield written
    written.remove()


def _record(address: str = ADDRESS, **fields: Any) -> ServerRecord:
    return ServerRecord(address=address, pid=os.getpid(), started=time.time(), **fields)


def _addresses() -> list[str]:
    return [server.address for server in live_servers()]


def _locked(path: Path, data: bytes, mode: int = 0o600) -> int:
    """Write a file as a server would, and lock it; returns the descriptor with the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    os.write(descriptor, data)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _valid(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(_record(), **{"machine": machine_name(), **fields}))


def test_a_file_is_written_for_the_user_alone_and_removed(runtime: Path) -> None:
    written = write_record(_record(models={"tiny": "space:32:float32"}))
    assert written.path.parent == runtime
    assert (written.path.stat().st_mode & 0o777, runtime.stat().st_mode & 0o777) == (0o600, 0o700)
    (server,) = live_servers()
    assert (server.address, server.pid, server.models) == (ADDRESS, os.getpid(), {"tiny": "space:32:float32"})
    written.remove()
    assert live_servers() == [] and list(runtime.iterdir()) == []


def test_without_a_runtime_directory_the_cache_folder_has_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("", "relative", str(tmp_path / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        written = write_record(_record())
        assert written.path.parent == tmp_path / "cache" / "servers"
        # A tool in another session finds it as well.
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
        assert _addresses() == [ADDRESS]
        written.remove()


def test_a_file_that_no_process_has_locked_is_ignored_and_removed_by_the_next_server(runtime: Path) -> None:
    write_record(_record()).remove()
    # The process id is that of a living process, as after a long time.
    (runtime / "1-stale.json").write_bytes(_valid(pid=os.getppid()))
    (runtime / "1-stale.json").chmod(0o600)
    assert live_servers() == []
    written = write_record(_record("http://127.0.0.1:9000"))
    assert list(runtime.iterdir()) == [written.path]
    written.remove()


def test_a_killed_server_leaves_a_file_that_is_ignored(runtime: Path) -> None:
    code = (
        "import os, sys, time; from nearfield.attach.server_files import *;"
        f"write_record(ServerRecord(address={ADDRESS!r}, pid=os.getpid())); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "up\n"
        assert _addresses() == [ADDRESS]
        server.kill()
        server.wait()
        assert len(list(runtime.iterdir())) == 1
        assert live_servers() == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff garbage",
        b"[" * 60_000,
        b"{}",
        b"null",
        _valid(format=2),
        _valid(machine="another machine"),
        _valid(pid=-1),
        _valid(pid=0),
        _valid(pid=2**31 - 1),
        _valid(pid=2**80),
        _valid(address=5),
        b" " * 100_000 + _valid(),
    ],
    ids=[
        "empty",
        "bytes",
        "deep",
        "no fields",
        "null",
        "format",
        "machine",
        "pid -1",
        "0",
        "unused",
        "2**80",
        "5",
        "huge",
    ],
)
def test_files_with_other_content_are_ignored(runtime: Path, record: WrittenRecord, data: bytes) -> None:
    descriptor = _locked(runtime / "2-other.json", data)
    try:
        assert _addresses() == [ADDRESS]
    finally:
        os.close(descriptor)


def test_links_pipes_folders_and_files_that_others_may_write_are_ignored(
    runtime: Path, tmp_path: Path, record: WrittenRecord
) -> None:
    other = tmp_path / "elsewhere"
    locked = [_locked(other, _valid(address="http://127.0.0.1:1")), _locked(runtime / "3-open.json", _valid())]
    (runtime / "3-open.json").chmod(0o620)
    (runtime / "4-link.json").symlink_to(other)
    os.mkfifo(runtime / "5-pipe.json", 0o600)
    (runtime / "6-folder.json").mkdir(mode=0o700)
    assert _addresses() == [ADDRESS]
    for descriptor in locked:
        os.close(descriptor)


def test_files_of_other_users_are_ignored(record: WrittenRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _addresses() == [ADDRESS]
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert live_servers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser makes files of other users")
def test_a_file_of_another_user_in_the_directory_is_ignored(runtime: Path, record: WrittenRecord) -> None:
    descriptor = _locked(runtime / "2-other.json", _valid(address="http://127.0.0.1:1"))
    os.chown(runtime / "2-other.json", 12345, 12345)
    assert _addresses() == [ADDRESS]
    os.close(descriptor)


def test_a_directory_that_others_may_write_to_is_not_used(runtime: Path, record: WrittenRecord, tmp_path: Path) -> None:
    runtime.chmod(0o770)
    assert live_servers() == []
    with pytest.raises(errors.StorageFailed, match="others may access it"):
        write_record(_record())
    runtime.chmod(0o700)
    runtime.rename(tmp_path / "moved")
    runtime.symlink_to(tmp_path / "moved")
    assert live_servers() == []


def test_a_forked_process_has_no_part_in_the_file(record: WrittenRecord) -> None:
    child = os.fork()
    if not child:
        record.remove()  # of the parent, which runs
        os._exit(0)
    os.waitpid(child, 0)
    assert _addresses() == [ADDRESS]


def test_the_server_that_has_the_model_is_used(
    tmp_path: Path, tiny: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four servers, one has ended, one has another model, and one has another model under the same name."""
    folders = [write_tiny_model(tmp_path / "other"), write_tiny_model(tmp_path / "deep" / "tiny", spread=0.2)]
    others = [Encoder(str(folder), compile_cache=False) for folder in folders]
    with serving([tiny]) as first, serving([others[0]]) as second, serving([others[1]]) as third:
        urls = (first, second, third, "http://127.0.0.1:1")
        written = [write_record(_record(url, models={"tiny": None})) for url in urls]
        with open_encoder(str(tiny.recipe.folder)) as encoder:
            assert isinstance(encoder, AttachedEncoder)
            np.testing.assert_array_equal(encoder.encode("a cat"), tiny.encode("a cat"))
            again = pickle.loads(pickle.dumps(encoder))
            np.testing.assert_array_equal(again.encode("a cat"), tiny.encode("a cat"))
        assert capsys.readouterr().err == f"nearfield: tiny is attached to {first} (process {os.getpid()}).\n"
        for file in written:
            file.remove()
    for model in others:
        model.close()


def test_without_a_server_that_can_be_used_the_model_is_loaded_here(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tiny.recipe.folder)
    with open_encoder(folder, compile_cache=False) as encoder:
        assert type(encoder) is Encoder
    assert capsys.readouterr().err == "nearfield: tiny is loaded here: no server of this user runs on this machine.\n"
    with serving([tiny], api_keys=["sesame-open"]) as url:
        written = write_record(_record(url, needs_key=True))
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "Set NEARFIELD_KEY to an API key"),
            ({"threads": 1}, "threads=1 is for a model that is loaded"),
        )
        for options, reason in cases:
            with open_encoder(folder, **options, compile_cache=False) as encoder:
                assert type(encoder) is Encoder
            line = capsys.readouterr().err
            assert line.startswith("nearfield: tiny is loaded here: ") and reason in line and line.count("\n") == 1
        monkeypatch.setenv("NEARFIELD_KEY", "sesame-open")
        with open_encoder(folder) as encoder:
            assert isinstance(encoder, AttachedEncoder)
        written.remove()
    with pytest.raises(errors.UnknownKeyword):
        open_encoder(folder, thread=1)


def test_nothing_is_sent_to_the_address_of_a_server_that_has_ended(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user may listen there by now."""
    monkeypatch.setattr(attached_client, "_RESTART_SECONDS", 0.3)
    with serving([tiny]) as url:
        written = write_record(_record(url))
        with open_encoder(str(tiny.recipe.folder)) as encoder:
            encoder.encode("a cat")
            written.remove()
            with pytest.raises(errors.NearfieldError, match=f"server at {url} has ended"):
                encoder.encode("a cat")
            written = write_record(_record(url))
            np.testing.assert_array_equal(encoder.encode("a cat"), tiny.encode("a cat"))
        written.remove()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("flags", [(), ("--frontends", "2")], ids=["one process", "front-ends"])
def test_nearfield_serve_writes_the_file_while_it_accepts_requests(
    tmp_path: Path, runtime: Path, flags: tuple[str, ...]
) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    server = Process(folder, *flags)
    try:
        (found,) = live_servers()
        assert found.address == server.url and found.pid == server.process.pid and not found.needs_key
        with open_encoder(str(folder)) as encoder:
            assert isinstance(encoder, AttachedEncoder)
            assert found.models == {"tiny": encoder.fingerprint}
            assert encoder.encode(["a cat"]).shape == (1, 32)
    finally:
        server.terminate()
        assert server.wait() == 0
    assert list(runtime.iterdir()) == []


@pytest.mark.slow
@pytest.mark.network
def test_nearfield_serve_on_all_addresses_without_discovery_and_with_a_directory_that_it_cannot_use(
    tmp_path: Path, runtime: Path
) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    server = Process(folder, "--host", "0.0.0.0", "--api-key", "sesame-open")
    (found,) = live_servers()
    assert found.address == f"http://127.0.0.1:{server.port}" and found.needs_key
    assert "sesame" not in next(runtime.iterdir()).read_text()
    server.kill()
    assert live_servers() == []
    server = Process(folder, "--no-discovery")
    assert live_servers() == []
    server.terminate()
    assert server.wait() == 0
    runtime.chmod(0o777)
    server = Process(folder)
    assert live_servers() == []
    server.terminate()
    assert server.wait() == 0

"""Replicas of a model on sets of CPUs, in real processes, and what happens when one fails."""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest

from nearfield import Encoder
from nearfield.arrays import Array
from nearfield.backends import Executor, Inputs, replica_process, replica_worker, replicas
from nearfield.backends.replica_process import ReplicaLostError, ReplicaProcess
from nearfield.backends.replicas import LocalReplica, ProcessReplica, ReplicatedProgram
from nearfield.devices import ModelDevice, format_cpus
from nearfield.engine.engine import Engine
from nearfield.errors import ExecutionFailed, InputError, OutOfMemory
from nearfield.hardware import CpuPlan, allowed_cpus, memory_used
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.lifecycle.model_loading import load_models
from nearfield.server.lifecycle.serve import ready_line
from nearfield.server.models.description import describe
from nearfield.server.models.memory_budget import MemoryBudget
from nearfield.server.models.model_entry import ModelEntry
from nearfield.settings import Settings

WORDS = ["the", "cat", "sat", "on", "a", "mat", "blue", "world", "hello", "search", "query", "dog", "red", "hat"]
#: All are different: equal ones are computed once, and one replica could compute all that remain.
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=number % 9 * 6 + 6)) for number in range(300)]

needs_two_cpus = pytest.mark.skipif(
    sys.platform != "linux" or len(allowed_cpus()) < 2, reason="needs Linux and two CPUs for this process"
)


@pytest.fixture(scope="module")
def cpus() -> list[int]:
    return sorted(allowed_cpus())[:2]


@pytest.fixture(scope="module")
def pair(tiny: Encoder, cpus: list[int]) -> Iterator[Encoder]:
    """The tiny model on two sets of one CPU each."""
    with _load(tiny, [f"cpu:{cpu}" for cpu in cpus]) as encoder:
        yield encoder


def _load(tiny: Encoder, devices: list[str], **options: Any) -> Encoder:
    return Encoder(str(tiny.recipe.folder), precision="float32", devices=devices, compile_cache=False, **options)


def _replicas(model: LoadedModel) -> list[ProcessReplica]:
    program = cast(ReplicatedProgram, model._model._loaded[1])
    return cast("list[ProcessReplica]", program.replicas)


def _processes(model: LoadedModel) -> list[int]:
    return [replica._process._process.pid for replica in _replicas(model)]


def _task_facts(process: int, file: str) -> list[str]:
    return [(task / file).read_text() for task in Path(f"/proc/{process}/task").iterdir()]


def _nanoseconds(process: int) -> int:
    """Return for how long the threads of a process have run."""
    return sum(int(text.split()[0]) for text in _task_facts(process, "schedstat"))


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@needs_two_cpus
@pytest.mark.process
def test_two_sets_of_cpus_give_the_vectors_of_one_device_and_both_compute(tiny: Encoder, pair: Encoder) -> None:
    before = list(map(_nanoseconds, _processes(pair)))
    vectors = pair.encode(TEXTS)
    np.testing.assert_allclose(vectors, tiny.encode(TEXTS), atol=2e-6)
    worked = [_nanoseconds(process) - start for process, start in zip(_processes(pair), before, strict=True)]
    assert min(worked) > 1e6, worked
    assert pair.engine.lanes == 2 and [len(replica.lanes) for replica in _replicas(pair)] == [1, 1]
    assert vectors.fingerprint == tiny.encode("a").fingerprint


@needs_two_cpus
@pytest.mark.process
def test_all_threads_of_a_replica_are_on_its_cpus(pair: Encoder, cpus: list[int]) -> None:
    for process, cpu in zip(_processes(pair), cpus, strict=True):
        lines = "\n".join(_task_facts(process, "status")).splitlines()
        allowed = [line.split()[1] for line in lines if line.startswith("Cpus_allowed_list")]
        assert len(allowed) > 1 and set(allowed) == {str(cpu)}
    assert allowed_cpus() >= set(cpus)  # those of this process are the same as before


@needs_two_cpus
@pytest.mark.process
def test_the_memory_of_all_replicas_counts(tiny: Encoder, pair: Encoder) -> None:
    processes = sum(memory_used(process) or 0 for process in _processes(pair))
    assert pair._model.process_bytes >= processes * 0.9 > 0
    assert (pair.bytes or 0) > 0.8 * processes
    assert tiny._model.process_bytes == 0


@needs_two_cpus
@pytest.mark.process
def test_descriptions_name_the_devices(tiny: Encoder, pair: Encoder, cpus: list[int]) -> None:
    names = (f"cpu:{cpus[0]}", f"cpu:{cpus[1]}")
    assert pair.devices == describe(pair).devices == names
    assert (pair.device, tiny.devices, describe(tiny).devices) == ("cpu", ("cpu",), ("cpu",))
    assert f"float32, on {names[0]}, {names[1]})" in ready_line("here", [pair], 1.0)
    assert pair.load_arguments()["devices"] == list(names)


@needs_two_cpus
@pytest.mark.process
def test_a_replica_that_is_killed_loses_no_input_and_is_started_again(
    tiny: Encoder, pair: Encoder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_REST_SECONDS", 0.05)
    first, second = _processes(pair)
    os.kill(first, signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(pair.encode(TEXTS), tiny.encode(TEXTS), atol=2e-6)

        def restarted() -> bool:
            pair.encode(TEXTS[:40])
            return _processes(pair)[0] != first

        _wait_until(restarted)
    assert "ended, signal 9" in caplog.text and "was started again" in caplog.text
    assert _processes(pair)[1] == second
    np.testing.assert_allclose(pair.encode(TEXTS), tiny.encode(TEXTS), atol=2e-6)


@needs_two_cpus
@pytest.mark.process
def test_a_replica_that_does_not_answer_is_replaced(
    tiny: Encoder, pair: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica_process, "_HUNG_SECONDS", 0.3)
    monkeypatch.setattr(replicas, "_REST_SECONDS", 0.05)
    stopped = _processes(pair)[1]
    os.kill(stopped, signal.SIGSTOP)
    np.testing.assert_allclose(pair.encode(TEXTS), tiny.encode(TEXTS), atol=2e-6)
    # The other one may have computed all.
    _wait_until(lambda: "did not answer within 0.3 s" in caplog.text or not len(pair.encode(TEXTS)))
    monkeypatch.setattr(replica_process, "_HUNG_SECONDS", 100.0)

    def replaced() -> bool:
        pair.encode(TEXTS[:40])
        return _processes(pair)[1] != stopped

    _wait_until(replaced)


@needs_two_cpus
@pytest.mark.process
def test_signals_for_the_whole_server_do_not_end_replicas(pair: Encoder) -> None:
    before = _processes(pair)
    for process in before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(process, number)
    pair.encode(TEXTS[:80])
    assert _processes(pair) == before and all(replica._process.alive for replica in _replicas(pair))


@needs_two_cpus
@pytest.mark.process
def test_a_server_has_a_lane_for_each_stream_and_closed_models_have_no_process(tiny: Encoder, cpus: list[int]) -> None:
    devices = (f"cpu:{format_cpus(cpus)}",)
    engine, _, (model,) = load_models(Settings(models=(str(tiny.recipe.folder),), devices=devices, streams=1))
    assert engine.lanes == 1 and model.devices == devices
    (process,) = _processes(model)
    lines = "\n".join(_task_facts(process, "status")).splitlines()
    assert {line.split()[1] for line in lines if line.startswith("Cpus_allowed_list")} <= {
        f"{cpus[0]}-{cpus[1]}",
        f"{cpus[0]},{cpus[1]}",
        *map(str, cpus),  # OpenVINO may bind a thread to one of them
    }
    os.kill(process, signal.SIGKILL)  # the only one there is
    np.testing.assert_allclose(cast(Encoder, model).encode(TEXTS[:3]), tiny.encode(TEXTS[:3]), atol=0.02)
    (again,) = _processes(model)
    engine.close()
    model.close()
    del model
    _wait_until(lambda: not Path(f"/proc/{again}").exists())


@needs_two_cpus
@pytest.mark.process
def test_a_process_that_ends_at_the_start_is_an_error(
    tiny: Encoder, cpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_process, "_dump_load", lambda _: pickle.dumps(partial(_exit, 7)))
    with pytest.raises(ExecutionFailed, match=rf"cpu:{cpus[0]} ended while it loaded the model \(status 7\)"):
        _load(tiny, [f"cpu:{cpus[0]}"])


def test_the_parent_gets_the_error_of_a_program_that_cannot_be_loaded(tmp_path: Path) -> None:
    parent, child = Pipe()
    file = tmp_path / "program"
    file.write_bytes(pickle.dumps("x"))
    parent.send(pickle.loads)
    loaded: Any = replica_worker._load(child, os.open(file, os.O_RDONLY))
    assert loaded == "x" and parent.recv() is None
    file.write_bytes(b"no pickle")
    parent.send(pickle.loads)
    with pytest.raises(EOFError):
        replica_worker._load(child, os.open(file, os.O_RDONLY))
    assert isinstance(parent.recv(), pickle.UnpicklingError)
    error = type("LocalError", (Exception,), {})("only here")
    assert str(pickle.loads(replica_worker._dump(error))) == "LocalError: only here"


_FORKING_PARENT = """
import os, subprocess, sys, tempfile
from multiprocessing import Pipe
link, child = Pipe()
file = tempfile.TemporaryFile()
file.write(b"program")
file.flush()
numbers = [child.fileno(), file.fileno()]
words = [sys.executable, "-m", "nearfield.backends.replica_worker", *map(str, numbers)]
worker = subprocess.Popen(words, pass_fds=numbers, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
child.close()
link.send(len)
link.recv_bytes()  # it is loaded
if os.fork():
    print(worker.pid, flush=True)
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


@needs_two_cpus
@pytest.mark.process
def test_a_replica_ends_with_its_parent_although_a_forked_process_has_its_socket() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _FORKING_PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        _wait_until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)


def _exit(status: int, _: object) -> None:
    os._exit(status)


def test_a_process_that_is_killed_at_the_start_lacks_memory() -> None:
    class Killed:
        def wait(self) -> int:
            return -9

    process = ReplicaProcess.__new__(ReplicaProcess)
    process.device, process._process = ModelDevice("cpu:1"), cast(Any, Killed())
    assert isinstance(process._failed_start(), OutOfMemory)


def test_options_that_exclude_devices_are_named(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="device='cpu' and devices exclude each other"):
        Encoder(str(tiny.recipe.folder), device="cpu", devices="cuda:0,cuda:1")
    with pytest.raises(InputError, match="'openvino' runs on CPUs alone, not on cuda:0"):
        Encoder(str(tiny.recipe.folder), devices="cuda:0,cuda:1")
    engine = Engine(1)
    with pytest.raises(InputError, match="devices names 2, and the engine runs 1 at the same time"):
        Encoder(str(tiny.recipe.folder), devices="cuda:0,cuda:1", engine=engine)
    engine.close()


def test_a_budget_of_memory_expects_a_copy_for_each_set() -> None:
    entry = ModelEntry("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5")
    single, double = MemoryBudget({}, None), MemoryBudget({}, None, copies=2)
    assert double.expected_bytes(entry) == 2 * single.expected_bytes(entry) > 0


# -- what fails where -------------------------------------------------------------------------------------------------


class FakeProgram:
    """A program that fails as long as ``error`` is set; it counts its batches."""

    precision = "float32"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.batches = 0

    def create_executor(self) -> Executor:
        return self

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        if self.error is not None:
            raise self.error
        self.batches += 1
        return dict.fromkeys(outputs, inputs["ids"])


@pytest.fixture
def programs() -> list[FakeProgram]:
    return [FakeProgram(), FakeProgram()]


@pytest.fixture
def program(programs: list[FakeProgram]) -> ReplicatedProgram:
    """A program on two GPUs with three lanes and one."""
    plans = (CpuPlan(3, 4), CpuPlan(1, 4))
    return ReplicatedProgram(
        [
            LocalReplica(ModelDevice(f"cuda:{number}"), plan, program)
            for number, (plan, program) in enumerate(zip(plans, programs, strict=True))
        ]
    )


def _run(executor: Executor) -> Array:
    return executor.run({"ids": np.ones(3)}, ("dense",))["dense"]


def test_lanes_are_divided_by_the_streams_of_replicas(program: ReplicatedProgram) -> None:
    executors = [program.create_executor() for _ in range(8)]
    assert sorted(executor.own.device.name for executor in executors) == ["cuda:0"] * 6 + ["cuda:1"] * 2
    del executors
    again = [program.create_executor() for _ in range(2)]  # a lane that died makes place for its successor
    assert [executor.own.device.name for executor in again] == ["cuda:0", "cuda:1"]


def test_a_batch_that_fails_on_one_gpu_runs_on_another_which_is_then_used(
    program: ReplicatedProgram, programs: list[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = program.create_executor(), program.create_executor()
    assert [_run(executor).sum() for executor in (first, second)] == [3.0, 3.0]
    programs[0].error = RuntimeError("CUDA out of memory")
    assert _run(first).sum() == 3.0
    programs[0].error = None
    _run(first)
    assert [fake.batches for fake in programs] == [1, 3]  # the first rests
    monkeypatch.setattr(program.replicas[0], "rests_until", 0.0)
    _run(first)
    assert [fake.batches for fake in programs] == [2, 3]


def test_a_batch_that_fails_everywhere_is_at_fault_itself(
    program: ReplicatedProgram, programs: list[FakeProgram]
) -> None:
    executor = program.create_executor()
    for other in (executor, program.create_executor()):
        _run(other)
    programs[0].error = programs[1].error = RuntimeError("no such token")
    with pytest.raises(RuntimeError, match="no such token"):
        _run(executor)
    assert [replica.rests_until for replica in program.replicas] == [0.0, 0.0]
    programs[0].error, programs[1].error = InputError("The model takes at most 5 tokens."), None
    with pytest.raises(InputError):
        _run(executor)
    assert programs[1].batches == 1


def test_a_replica_that_never_ran_fails_by_itself(program: ReplicatedProgram, programs: list[FakeProgram]) -> None:
    first, second = program.create_executor(), program.create_executor()
    _run(first)
    programs[1].error = RuntimeError("invalid device ordinal")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        _run(second)


def test_a_single_replica_that_is_lost_is_tried_once_more(programs: list[FakeProgram]) -> None:
    program = ReplicatedProgram([LocalReplica(ModelDevice("cpu:0"), CpuPlan(1, 1), programs[0])])
    executor = program.create_executor()
    _run(executor)
    programs[0].error = ReplicaLostError("the process of cpu:0 ended")
    with pytest.raises(ReplicaLostError):
        _run(executor)
    programs[0].error = None
    assert _run(executor).sum() == 3.0

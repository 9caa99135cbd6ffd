"""A small batch that runs alone uses all threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends
from nearfield.arrays import Array
from nearfield.backends import BackendOptions, Inputs, openvino
from nearfield.backends.lone_batches import MOST_TOKENS, LoneBatchProgram
from nearfield.checkpoint.weights.weights import EmbeddingTable, Linear
from nearfield.hardware import CpuPlan
from nearfield.ops import Graph

SMALL, LARGE = np.zeros((1, 8), np.int32), np.zeros((1, MOST_TOKENS + 1), np.int32)


class NamedProgram:
    """A program whose result is its name; a batch may have to wait."""

    precision = "float32"

    def __init__(self, number: int, gate: threading.Event) -> None:
        self._number, self._gate = number, gate

    def create_executor(self) -> NamedProgram:
        return self

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        if inputs["segments"].max(initial=0):
            raise RuntimeError("a batch that fails")
        assert self._gate.wait(10)
        return {name: np.array([self._number]) for name in outputs}


def _which(program: LoneBatchProgram, segments: Array = SMALL) -> int:
    return int(program.create_executor().run({"segments": segments}, ("out",))["out"][0])


def test_a_small_batch_alone_has_all_threads_also_after_one_that_failed() -> None:
    gate = threading.Event()
    gate.set()
    program = LoneBatchProgram(NamedProgram(0, gate), NamedProgram(1, gate))
    assert [_which(program), _which(program, LARGE), _which(program)] == [1, 0, 1]
    with pytest.raises(RuntimeError):
        _which(program, SMALL + 1)
    assert _which(program) == 1


def test_beside_others_a_batch_has_the_thread_of_its_stream() -> None:
    gate, found = threading.Event(), []
    program = LoneBatchProgram(NamedProgram(0, gate), NamedProgram(1, gate))
    with program.running():
        other = threading.Thread(target=lambda: found.append(_which(program)))
        other.start()
        gate.set()
        other.join(10)
    assert [*found, _which(program)] == [0, 1]


def _program(cache: Path | None = None, *, size: int = 1024, reproducible: bool = False) -> Any:
    random = np.random.default_rng(0)
    table = EmbeddingTable(random.normal(size=(50, size)).astype(np.float32))
    layer = Linear(random.normal(size=(size, size), scale=size**-0.5).astype(np.float32), None)

    def forward(run: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"out": run.linear(run.linear(run.embed(table, inputs["ids"]), layer), layer)}

    options = BackendOptions("float32", CpuPlan(streams=2, threads=2), cache, reproducible=reproducible)
    graph = Graph(("ids", "segments"), forward, ("out",), f"digest {size}")
    return backends.REGISTRY.load("openvino")(options).compile(graph)


def test_both_programs_give_the_same_and_are_saved(tmp_path: Path) -> None:
    ids = np.arange(6, dtype=np.int32)[None]
    inputs = {"ids": ids, "segments": np.ones_like(ids)}
    first, second = _program(tmp_path), _program(tmp_path)
    with first.running():
        expected = first.create_executor().run(inputs, ("out",))["out"]
    for program in (first, second):
        assert isinstance(program, LoneBatchProgram)
        found = program.create_executor().run(inputs, ("out",))["out"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(list(tmp_path.glob("*.ov"))) == 2


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_file_of_either_program_is_written_again(tmp_path: Path, content: bytes) -> None:
    _program(tmp_path)
    files = {file: file.stat().st_size for file in tmp_path.glob("*.ov")}
    for file in files:
        file.write_bytes(content)
        assert isinstance(_program(tmp_path), LoneBatchProgram)
        assert {saved: saved.stat().st_size for saved in tmp_path.glob("*.ov")} == files


def test_without_the_second_program_the_first_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "write_atomic", fail)
        assert isinstance(_program(tmp_path), LoneBatchProgram)
    assert not list(tmp_path.glob("*.ov"))
    assert isinstance(_program(tmp_path), LoneBatchProgram)


def test_tiny_and_reproducible_models_have_one_program() -> None:
    assert not isinstance(_program(size=64), LoneBatchProgram)
    assert not isinstance(_program(reproducible=True), LoneBatchProgram)

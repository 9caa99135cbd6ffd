"""One conformance suite for every backend: each operation against numpy's float64, and batched against alone."""

from __future__ import annotations

import pickle
import platform
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import pytest

from nearfield import backends, ops
from nearfield.backends import BackendOptions
from nearfield.checkpoint.weights.weights import EmbeddingTable, Linear, Lora, Norm
from nearfield.errors import InputError
from nearfield.hardware import CpuPlan
from nearfield.ops import AttentionMask, Graph, Ops

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
B, L, H, HEADS = 3, 7, 16, 4
LENGTHS = np.array([7, 4, 1])
Forward = Callable[[Ops[Any], Mapping[str, Any]], Any]


#: ``transformers`` has its own encoders, and runs heads on torch's operations.
BACKENDS = [name for name in backends.REGISTRY.names() if name != "transformers"]


def _normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


TABLE = _normal(50, H)
LAYER = Linear(_normal(24, H), _normal(24))
BARE = Linear(_normal(24, H), None)
NORM = Norm(_normal(H), _normal(H))
NARROW = Norm(_normal(H), None)
QKV = [Linear(_normal(H, H), _normal(H)) for _ in range(3)]
KV = [Linear(_normal(H // 2, H), None) for _ in range(2)]
HEAD_NORM = Norm(_normal(H // HEADS), _normal(H // HEADS))
BUCKETS = _normal(8, HEADS)
RELATIVE = _normal(8, HEADS, H // HEADS)
OWNERS = np.array([1, 1, 2], np.int64)
ADAPTED = Linear(_normal(24, H), _normal(24), Lora(_normal(3, H), _normal(24, 3), OWNERS, 2))
ADAPTED_TABLE = EmbeddingTable(TABLE, Lora(_normal(3, 50), _normal(H, 3), OWNERS, 2))
_ROW = _normal(H)
INPUTS = {
    "ids": RANDOM.integers(0, 50, (B, L)).astype(np.int32),
    "segments": (np.arange(L) < LENGTHS[:, None]).astype(np.int32),
    "keys": (np.arange(L) < (LENGTHS - (LENGTHS > 2))[:, None]).astype(np.int32),
    "places": np.tile(np.arange(L, dtype=np.int32), (B, 1)),
    "positions": np.arange(L, dtype=np.int32)[None],
    "adapters": np.repeat(np.array([[0], [2], [1]], np.int32), L, 1),
    "rope.cos": np.cos(RANDOM.standard_normal((B, L, 4))).astype(np.float32),
    "rope.sin": np.sin(RANDOM.standard_normal((B, L, 4))).astype(np.float32),
    "rope.local.cos": np.cos(RANDOM.standard_normal((B, L, 2))).astype(np.float32),
    "rope.local.sin": np.sin(RANDOM.standard_normal((B, L, 2))).astype(np.float32),
    "buckets": RANDOM.integers(0, 8, (L, L)).astype(np.int32),
    "pool.mean": ((np.arange(L) < LENGTHS[:, None]) / LENGTHS[:, None]).astype(np.float32)[:, None],
    "pool.max": (np.arange(L) < LENGTHS[:, None]).astype(np.float32),
}


def _x(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
    return run.rows(TABLE, inputs["ids"])


def _attend(
    run: Ops[Any],
    inputs: Mapping[str, Any],
    biased: bool = False,
    scale: float | None = None,
    cap: float | None = None,
    **seen: Any,
) -> Any:
    x = _x(run, inputs)
    q, k, v = (run.split(run.linear(x, layer), HEADS) for layer in QKV)
    bias = run.expand(run.move_last_first(run.rows(BUCKETS, inputs["buckets"])), 0) if biased else None
    places = inputs["places"] if seen else None
    mask = AttentionMask(inputs["segments"], places, keys=inputs.get("keys"), **seen)
    return run.attention(q, k, v, mask, bias=bias, scale=scale, cap=cap)


def _attend_to_all(run: Ops[Any], inputs: Mapping[str, Any], biased: bool = False) -> Any:
    q, k, v = (run.split(run.linear(_x(run, inputs), layer), HEADS) for layer in QKV)
    bias = run.expand(run.move_last_first(run.rows(BUCKETS, inputs["buckets"])), 0) if biased else None
    return run.attention(q, k, v, None, bias=bias)


def _grouped(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
    x = _x(run, inputs)
    q = run.split(run.linear(x, QKV[0]), HEADS)
    k, v = (run.split(run.linear(x, layer), HEADS // 2) for layer in KV)
    return run.attention(q, k, v, AttentionMask(inputs["segments"]))


def _disentangled(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
    x = _x(run, inputs)
    q, k, v = (run.split(run.linear(x, layer), HEADS) for layer in QKV)
    there, back = (run.relative(one, RELATIVE, inputs["buckets"]) for one in (q, k))
    return run.attention(q, k, v, AttentionMask(inputs["segments"]), bias=run.add(there, run.transpose(back)))


def _doubled(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
    """Double the rows that count, and then none."""
    x = _x(run, inputs)
    for count in (1, 0):
        chosen = run.nonzero(run.multiply(inputs["pool.max"], run.constant(np.array([count], np.float32))))
        x = run.add_rows(
            x, chosen, run.affine(run.gather(run.reshape(x, H), chosen), np.eye(H, dtype=np.float32), None)
        )
    return x


def _headed(change: Callable[[Ops[Any], Any, Mapping[str, Any]], Any]) -> Forward:
    """Change query and key as heads tensors, whose layout is the backend's own, and attend."""

    def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
        x = _x(run, inputs)
        q, k, v = (run.split(run.linear(x, layer), HEADS) for layer in QKV)
        return run.attention(change(run, q, inputs), change(run, k, inputs), v, AttentionMask(inputs["segments"]))

    return forward


def _rope(run: Ops[Any], x: Any, inputs: Mapping[str, Any], kind: str = "rope") -> Any:
    return run.rope(x, inputs[f"{kind}.cos"], inputs[f"{kind}.sin"])


def _adapted(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
    run.adapters = inputs["adapters"]
    return run.linear(run.embed(ADAPTED_TABLE, inputs["ids"]), ADAPTED)


def _activate(name: str) -> Forward:
    return lambda run, inputs: run.activation(_x(run, inputs), name)


CASES: dict[str, tuple[tuple[str, ...], Forward]] = {
    "rows": (("ids",), _x),
    "linear": (("ids",), lambda run, inputs: run.linear(_x(run, inputs), LAYER)),
    "linear without bias": (("ids",), lambda run, inputs: run.linear(_x(run, inputs), BARE)),
    "layer_norm": (("ids",), lambda run, inputs: run.layer_norm(_x(run, inputs), NORM, 1e-5)),
    "layer_norm without bias": (("ids",), lambda run, inputs: run.layer_norm(_x(run, inputs), NARROW, 1e-12)),
    "factor": (("ids",), lambda run, inputs: run.factor(_x(run, inputs), LAYER.weight)),
    "affine": (("ids",), lambda run, inputs: run.affine(_x(run, inputs), LAYER.weight, LAYER.bias)),
    "embed": (("ids",), lambda run, inputs: run.embed(EmbeddingTable(TABLE), inputs["ids"])),
    "adapters": (("ids", "adapters"), _adapted),
    "rms_norm": (("ids",), lambda run, inputs: run.rms_norm(_x(run, inputs), NARROW, 1e-6)),
    "attention": (("ids", "segments"), _attend),
    "attention with bias": (("ids", "segments", "buckets"), lambda run, inputs: _attend(run, inputs, True)),
    "attention with keys": (("ids", "segments", "keys"), _attend),
    "attention, causal": (("ids", "segments", "places"), lambda run, inputs: _attend(run, inputs, after=0)),
    "attention, window": (("ids", "segments", "places"), lambda run, inputs: _attend(run, inputs, before=2, after=1)),
    "attention, unscaled": (("ids", "segments"), lambda run, inputs: _attend(run, inputs, scale=0.3)),
    "attention, capped": (
        ("ids", "segments", "buckets"),
        lambda run, inputs: _attend(run, inputs, True, cap=2.0),
    ),
    "attention, grouped": (("ids", "segments"), _grouped),
    "attention, relative": (("ids", "segments", "buckets"), _disentangled),
    "attention, rope": (("ids", "segments", "rope.cos", "rope.sin"), _headed(_rope)),
    "attention, part rope": (
        ("ids", "segments", "rope.local.cos", "rope.local.sin"),
        _headed(lambda run, x, inputs: _rope(run, x, inputs, "rope.local")),
    ),
    "attention, normed": (
        ("ids", "segments"),
        _headed(lambda run, x, _: run.layer_norm(run.rms_norm(x, HEAD_NORM, 1e-6), HEAD_NORM, 1e-6)),
    ),
    "rows without a mask": (("ids",), _attend_to_all),
    "rows without a mask, with bias": (("ids", "buckets"), lambda run, inputs: _attend_to_all(run, inputs, True)),
    "softmax": (("ids",), lambda run, inputs: run.softmax(_x(run, inputs))),
    "top": (("ids",), lambda run, inputs: run.top(_x(run, inputs), 3)),
    "transpose": (("ids",), lambda run, inputs: run.transpose(_x(run, inputs))),
    "log1p": (("ids",), lambda run, inputs: run.activation(run.activation(_x(run, inputs), "relu"), "log1p")),
    "add": (("ids", "positions"), lambda run, inputs: run.add(_x(run, inputs), run.rows(TABLE, inputs["positions"]))),
    "multiply": (("ids",), lambda run, inputs: run.multiply(_x(run, inputs), run.constant(_ROW))),
    "max": (("ids",), lambda run, inputs: run.max(_x(run, inputs), 1)),
    "clip": (("ids",), lambda run, inputs: run.clip(_x(run, inputs), -0.5, 0.75)),
    "clip above": (("ids",), lambda run, inputs: run.clip(_x(run, inputs), float("-inf"), 0.75)),
    "concat": (("ids",), lambda run, inputs: run.concat([_x(run, inputs), _x(run, inputs)])),
    "normalize": (("ids",), lambda run, inputs: run.normalize(_x(run, inputs))),
    "gather": (
        ("ids", "positions"),
        lambda run, inputs: run.add(_x(run, inputs), run.gather(run.reshape(_x(run, inputs), H), inputs["positions"])),
    ),
    "add_rows": (("ids", "pool.max"), _doubled),
    "take": (("ids",), lambda run, inputs: run.take(_x(run, inputs), np.array([2, 0, 2, 6], np.int32))),
    "reshape": (("ids",), lambda run, inputs: run.reshape(run.take(_x(run, inputs), np.arange(6)), 3, 2 * H)),
    "matmul": (("ids", "pool.mean"), lambda run, inputs: run.matmul(inputs["pool.mean"], _x(run, inputs))),
    "masked_max": (("ids", "pool.max"), lambda run, inputs: run.masked_max(_x(run, inputs), inputs["pool.max"])),
    "expand": (
        ("ids", "pool.max"),
        lambda run, inputs: run.multiply(_x(run, inputs), run.expand(inputs["pool.max"], 2)),
    ),
    **{
        name: (("ids",), _activate(name))
        for name in ("identity", "gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh", "sigmoid")
    },
}
# Tested within "attention with bias", "masked_max", "multiply", "add_rows" and the other attentions.
WITHIN = {"move_last_first", "unseen", "constant", "activation", "split", "rope", "relative", "nonzero"}
SIZES = {"rope.cos": 4, "rope.sin": 4, "rope.local.cos": 2, "rope.local.sin": 2}


def _run(backend: str, case: str, inputs: Mapping[str, Any] = INPUTS) -> Any:
    names, forward = CASES[case]
    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    graph = Graph(names, lambda run, given: {"out": forward(run, given)}, ("out",), sizes=SIZES)
    return runtime.compile(graph).create_executor().run(inputs, ("out",))["out"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(backend: str, case: str) -> None:
    expected, actual = _run("reference", case), _run(backend, case)
    if "attention" in case:  # rows of padding are never read
        expected, actual = (x * INPUTS["pool.max"][:, :, None] for x in (expected, actual))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("case", ["adapters", "attention with bias", "layer_norm"])
def test_a_program_that_other_processes_load_is_the_same(backend: str, case: str) -> None:
    names, forward = CASES[case]
    graph = Graph(names, lambda run, given: {"out": forward(run, given)}, ("out",), sizes=SIZES)
    packed = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1))).pack(graph)
    load = pickle.loads(pickle.dumps(packed.load))
    program = load(np.memmap(packed.file, np.uint8, "r"))
    assert program.precision == packed.precision == "float32"
    np.testing.assert_array_equal(program.create_executor().run(INPUTS, ("out",))["out"], _run(backend, case))


def test_a_backend_whose_programs_stay_in_their_process_is_named() -> None:
    graph = Graph(("ids",), lambda run, given: {"out": _x(run, given)}, ("out",), sizes=SIZES)
    with pytest.raises(InputError, match="This backend runs on no sets of CPUs"):
        backends.REGISTRY.load("reference")(BackendOptions("float32", CpuPlan(1, 1))).pack(graph)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [name for name in CASES if "attention" in name] + ["matmul", "masked_max"])
def test_batched_equals_alone(backend: str, case: str) -> None:
    together = _run(backend, case)
    for row, length in enumerate(LENGTHS):
        one = {
            name: array[:length, :length]
            if name == "buckets"
            else array[:, :length]
            if name == "positions"
            else array[row : row + 1, :length]
            if name.startswith("rope")
            else array[row : row + 1, ..., :length]
            for name, array in INPUTS.items()
        }
        mine = together[row : row + 1]
        mine = mine[:, :length] if "attention" in case else mine
        np.testing.assert_allclose(_run(backend, case, one), mine, rtol=2e-5, atol=2e-5)


def test_every_operation_has_a_case() -> None:
    public = {name for name, member in vars(Ops).items() if not name.startswith("_") and callable(member)}
    assert public - WITHIN <= set(CASES), "an operation without a conformance case"


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_backend_adds_or_changes_operations(backend: str) -> None:
    module = backends.REGISTRY.load(backend).__module__
    implementations = [
        value
        for value in vars(__import__(module, fromlist=["_"])).values()
        if isinstance(value, type) and get_origin(value) is None and issubclass(value, Ops) and value is not Ops
    ]
    assert implementations
    for cls in implementations:
        for name, member in vars(cls).items():
            if not name.startswith("_"):
                assert list(signature(member).parameters) == list(signature(getattr(Ops, name)).parameters), name


def test_gelu_is_exact_in_the_reference() -> None:
    torch = pytest.importorskip("torch")
    x = INPUTS["ids"]
    expected = torch.nn.functional.gelu(torch.from_numpy(TABLE[x]).double()).numpy()
    np.testing.assert_allclose(_run("reference", "gelu"), expected, atol=1e-7)


@pytest.mark.parametrize("case", ["attention", "layer_norm", "silu", "gelu_tanh", "quick_gelu", "normalize"])
def test_the_reference_agrees_with_torch(case: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(TABLE[INPUTS["ids"]]).double()
    if case == "attention":
        q, k, v = (
            (x @ torch.from_numpy(w.weight).double().T + torch.from_numpy(w.bias))
            .unflatten(-1, (HEADS, -1))
            .transpose(1, 2)
            for w in QKV
        )
        seen = torch.from_numpy(INPUTS["pool.max"]).bool()[:, None, None]
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        expected, actual = (np.asarray(t) * INPUTS["pool.max"][:, :, None] for t in (out, _run("reference", case)))
    else:
        weight, bias = torch.from_numpy(NORM.weight).double(), torch.from_numpy(NORM.bias).double()
        expected = {
            "layer_norm": lambda: torch.nn.functional.layer_norm(x, (H,), weight, bias, 1e-5),
            "silu": lambda: torch.nn.functional.silu(x),
            "gelu_tanh": lambda: torch.nn.functional.gelu(x, approximate="tanh"),
            "quick_gelu": lambda: x * torch.sigmoid(1.702 * x),
            "normalize": lambda: torch.nn.functional.normalize(x, dim=-1),
        }[case]().numpy()
        actual = _run("reference", case)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_inputs_have_a_declared_type() -> None:
    assert all(dtype in ("int32", "float32") and rank in (2, 3) for dtype, rank in ops.INPUTS.values())


@pytest.mark.parametrize(("streams", "threads"), [(1, 1), (2, 2), (1, 2)])
def test_gated_feed_forwards_compile_with_every_number_of_threads(streams: int, threads: int) -> None:
    """With AMX and one thread a stream, OpenVINO ended the process."""
    table = EmbeddingTable(_normal(50, 32))
    gate, up, down = (Linear(_normal(*shape), None) for shape in ((64, 32), (64, 32), (32, 64)))

    def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        x = run.embed(table, inputs["ids"])
        product = run.multiply(run.activation(run.linear(x, gate), "gelu"), run.linear(x, up))
        return {"out": run.linear(product, down)}

    options = BackendOptions("auto", CpuPlan(streams=streams, threads=threads), None)
    program = backends.REGISTRY.load("openvino")(options).compile(Graph(("ids",), forward, ("out",)))
    assert program.create_executor().run({"ids": INPUTS["ids"]}, ("out",))["out"].shape == (B, L, 32)


def _embedded(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": run.embed(EmbeddingTable(TABLE), inputs["ids"])}


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_openvino_computes_in_the_precision_that_is_stated(precision: Any) -> None:
    """It takes any hint, and computes in float32 where it has no other kernels, as for bf16 on Arm."""
    options = BackendOptions(precision, CpuPlan(1, 1))
    program = backends.REGISTRY.load("openvino")(options).compile(Graph(("ids",), _embedded, ("out",)))
    computed = program._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert {"f32": "float32"}.get(computed, computed) == program.precision


def test_a_graph_that_another_kind_of_cpu_compiled_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines of two architectures may share a cache folder."""
    graph = Graph(("ids",), _embedded, ("out",), digest="abc")
    options = BackendOptions("float32", CpuPlan(1, 1), tmp_path)
    for machine in ("x86_64", "aarch64", "x86_64"):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        backends.REGISTRY.load("openvino")(options).compile(graph)
    assert len(list(tmp_path.glob("*.ov"))) == 2


def test_products_of_gates_stay_apart_where_they_must() -> None:
    from nearfield.backends.openvino_ops import OpenVinoOps, op, ov

    for separate in (False, True):
        run = OpenVinoOps(separate_gates=separate)
        product = run.linear(op.parameter([-1, 32], ov.Type.f32), Linear(_normal(64, 32), None))
        inside = run.activation(product, "gelu").input_value(0).get_node().get_type_name()
        assert inside == ("Add" if separate else "MatMul")

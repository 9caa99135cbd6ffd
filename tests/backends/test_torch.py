"""The torch backend: every family and head against its reference, in rows and in one row; what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nearfield import Encoder
from nearfield.backends import BackendOptions
from nearfield.backends.torch import TorchBackend
from nearfield.errors import InputError, ModelRefused
from nearfield.hardware import plan_cpu
from tests.parity import Case, cases
from tests.parity.measure import inputs, nearness, ours
from tests.support import tiny_models

#: The libraries that it compares with take more than two seconds to import.
pytestmark = pytest.mark.slow

#: One case of each family and output: the others differ in what is the same for all backends.
CASES = list({(case.family, case.output): case for case in reversed(cases())}.values())
IDS = [f"{case.family}: {case.name}" for case in CASES]


@pytest.fixture(params=[False, True], ids=["rows", "one row"])
def packed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Lay batches out in rows, or end to end as on CUDA."""
    own = TorchBackend.__init__

    def changed(self: TorchBackend, options: Any) -> None:
        own(self, options)
        self.packed = bool(request.param)

    monkeypatch.setattr(TorchBackend, "__init__", changed)
    return bool(request.param)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parity(case: Case, packed: bool, tmp_path: Path) -> None:
    folder = case.write(tmp_path)
    items = inputs(case)
    rows = ours(case, folder, items, backend="torch", precision="float32", device="cpu")
    found = nearness(rows, case.expect(folder, items, padding="right"))
    scale = max(1.0, max(float(np.abs(row).max(initial=0)) for row in rows))
    assert found.least >= 0.99999 and found.apart <= 5e-4 * scale, found


def test_half_precisions(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "bert", initializer_range=0.1)
    texts = list(tiny_models.TEXTS)
    with Encoder(str(folder), precision="float32") as encoder:
        truth = np.asarray(encoder.encode(texts))
    for precision, least in (("bfloat16", 0.999), ("float16", 0.99999)):
        with Encoder(str(folder), backend="torch", precision=precision, device="cpu") as encoder:
            found = np.asarray(encoder.encode(texts))
            assert encoder.precision == ("bf16" if precision == "bfloat16" else precision)
        assert (found * truth).sum(1).min() >= least and not np.array_equal(found, truth)


def test_a_weight_that_rounding_takes_away_is_no_leak(tmp_path: Path) -> None:
    """Rounded, a sparse row may lack a weight that it has in a batch: the others are not to be compared shifted."""
    case = next(case for case in cases() if (case.family, case.name) == ("xlm-roberta", "SPLADE, max"))
    folder, items = case.write(tmp_path), inputs(case)
    rows = ours(case, folder, items, backend="torch", precision="bfloat16", device="cpu")
    assert nearness(rows, case.expect(folder, items, padding="right")).least >= 0.999


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_float16_takes_the_largest_without_overflow(pooling: str, tmp_path: Path) -> None:
    """A mask of 1e9 is infinite in float16, and 0 times that is no number."""
    folder = tiny_models.tiny_bert(tmp_path / "bert", pooling=pooling, initializer_range=0.1)
    found = []
    for precision in ("float32", "float16"):
        with Encoder(str(folder), backend="torch", precision=precision, device="cpu") as encoder:
            found.append(np.asarray(encoder.encode(list(tiny_models.TEXTS))))
    np.testing.assert_allclose(found[0], found[1], atol=5e-3)


def test_inputs_of_one_row_do_not_see_each_other(packed: bool, tmp_path: Path) -> None:
    """Windows, and lengths on both sides of the widths that attention is grouped by."""
    folder = str(tiny_models.tiny_modernbert(tmp_path / "modernbert"))
    texts = ["river " * count for count in (1, 5, 6, 7, 14, 15, 40, 6, 1)]
    with Encoder(folder, backend="torch", precision="float32", device="cpu") as encoder:
        np.testing.assert_allclose(encoder.encode(texts), [encoder.encode(text) for text in texts], atol=1e-5)


def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.checkpoint.weights.weights import Weights

    with Encoder(str(tiny_models.tiny_bert(tmp_path / "bert")), backend="torch", device="cpu") as encoder:
        monkeypatch.setattr(Weights, "tensor", lambda *_: pytest.fail("weights were read again"))
        assert encoder.encode(["a", "b c"]).shape == (2, 32)


def test_refusals(tmp_path: Path) -> None:
    folder = str(tiny_models.tiny_bert(tmp_path / "bert"))
    with pytest.raises(InputError, match="device 'cuda:7' cannot be used"):
        Encoder(folder, backend="torch", device="cuda:7")
    with pytest.raises(InputError, match="precision 'float16' is for backends 'torch'"):
        Encoder(folder, precision="float16")
    (tmp_path / "bert" / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelRefused, match="a graph of another runtime"):
        Encoder(folder, backend="torch", file="model.onnx")


def test_a_gpu_is_described_with_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored measurements of speed depend on them."""
    facts = SimpleNamespace(name="NVIDIA L4", total_memory=24 * 2**30 - 5 * 2**20)
    monkeypatch.setattr("nearfield.backends.torch._device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("nearfield.backends.torch._DRIVER", tmp_path / "version")
    device = {"name": "NVIDIA L4", "GiB": 24, "driver": "", "runtime": "13.0"}
    assert TorchBackend.describe_device("cuda") == device
    (tmp_path / "version").write_text("NVRM version: 580.1\nGCC version: 12\n", encoding="utf-8")
    assert TorchBackend.describe_device("cuda:1") == device | {"driver": "NVRM version: 580.1"}
    assert TorchBackend.describe_device("cpu") == {"name": "cpu"}
    monkeypatch.undo()
    with pytest.raises(InputError, match="abacus"):
        TorchBackend.describe_device("abacus")


@pytest.mark.parametrize(
    ("capability", "chosen"), [((7, 0), "float32"), ((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_auto_is_bfloat16_on_gpus_that_compute_in_it(
    capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V100 (7.0) and T4 (7.5) have no units for it; what is requested is taken everywhere."""
    monkeypatch.setattr("nearfield.backends.torch._device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cpu = plan_cpu()
    assert TorchBackend(BackendOptions("auto", cpu, None, "cuda")).dtype == getattr(torch, chosen)
    assert TorchBackend(BackendOptions("float16", cpu, None, "cuda")).dtype == torch.float16

"""Weights: what is read equals what torch wrote; what is damaged, missing or could run code is refused by name."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused, UnsafeFile, WeightsError
from tests.support import tiny_models


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "bert.a.weight": torch.randn(4, 3),
        "bert.a.bias": torch.randn(4),
        "bert.half": torch.randn(5).half(),
        "bert.brain": torch.randn(2, 3, 4).bfloat16(),
        "bert.double": torch.randn(3).double(),
        "bert.scalar": torch.tensor(2.5),
        "bert.empty": torch.zeros(0, 3),
        "bert.ids": torch.arange(6).reshape(2, 3),
        "head.gamma": torch.randn(3),
        "head.beta": torch.randn(3),
    }


def write_safe(folder: Path) -> Path:
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_torch(folder: Path) -> Path:
    torch.save(OrderedDict(tensors()), folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("write", [write_safe, write_torch])
def test_reads_what_torch_wrote(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    weights = Weights.open(write(tmp_path))
    assert weights.names() == tensors().keys()
    for name, truth in tensors().items():
        if not truth.is_floating_point():
            continue
        array = weights.tensor(name, tuple(truth.shape))
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned
        np.testing.assert_array_equal(array, truth.float().numpy())


def test_integers_are_not_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"bert\.ids .*I64"):
        Weights.open(write_safe(tmp_path)).tensor("bert.ids", (2, 3))


def test_scopes_share_the_record_of_what_was_taken(tmp_path: Path) -> None:
    weights = Weights.open(write_safe(tmp_path))
    bert = weights.first_scope(("roberta.", "bert.", ""))
    assert bert.prefix == "bert." and "a.weight" in bert.names()
    layer = bert.linear("a", 3, 4)
    assert layer.weight.shape == (4, 3) and layer.bias is not None and layer.bias.shape == (4,)
    assert bert.scope("a").names() == {"weight", "bias"}
    norm = weights.norm("head", 3)
    np.testing.assert_array_equal(norm.weight, tensors()["head.gamma"].numpy())
    left = ["bert.brain", "bert.double", "bert.empty", "bert.half", "bert.ids", "bert.scalar"]
    assert weights.untaken() == bert.untaken() == left
    assert bert.untaken([r"\.ids$", "double", "brain|half|empty|scalar"]) == []


def test_a_layer_without_bias(tmp_path: Path) -> None:
    bert = Weights.open(write_safe(tmp_path)).scope("bert.")
    assert bert.linear("a", 3, 4, bias=False).bias is None
    assert "bert.a.bias" in bert.untaken()


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    weights = Weights.open(write_safe(tmp_path))
    with pytest.raises(WeightsError, match=r"lacks the weight bert\.a\.wieght \[4, 3\]. Did you mean 'bert.a.weight'"):
        weights.tensor("bert.a.wieght", (4, 3))
    with pytest.raises(WeightsError, match=r"bert\.a\.weight .* has shape \[4, 3\], and the config asks for \[3, 4\]"):
        weights.tensor("bert.a.weight", (3, 4))
    with pytest.raises(WeightsError, match=r"no weights under any of 'gpt\.'"):
        weights.first_scope(("gpt.",))


def test_shards(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model", shard_size="20KB")
    whole = Weights.open(tiny_models.tiny_bert(tmp_path / "whole"))
    assert not (folder / "model.safetensors").exists()
    sharded = Weights.open(folder)
    assert sharded.names() == whole.names()
    name = "encoder.layer.1.output.dense"
    np.testing.assert_array_equal(sharded.linear(name, 64, 32).weight, whole.linear(name, 64, 32).weight)


def test_damaged_shard_index(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model", shard_size="20KB")
    index = folder / "model.safetensors.index.json"
    places = tiny_models.read(index)["weight_map"]
    first = sorted(places)[0]
    for wrong, message in (
        ({**places, "gone": places[first]}, "says that gone is in"),
        ({**places, first: "model-9.safetensors"}, "names model-9.safetensors, which is missing"),
        ({**places, first: "../model.safetensors"}, "must lie beside"),
        ({}, "no weight_map"),
    ):
        tiny_models.dump(index, {"weight_map": wrong})
        with pytest.raises(WeightsError, match=message):
            Weights.open(folder)


def test_torch_files_of_a_real_model(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path)
    safe = Weights.open(folder)
    truth = {name: safe._contents.tensors[name].read(name) for name in safe.names()}
    state = OrderedDict((name, torch.nn.Parameter(torch.tensor(array))) for name, array in truth.items())
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    older = Weights.open(folder)
    assert older.names() == truth.keys()
    for name, array in truth.items():
        np.testing.assert_array_equal(older.tensor(name, array.shape), array)


def test_torch_views_and_shared_storage(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    state = {"turned": base.T, "slice": base[1:5:2, 1:3], "broadcast": base[0, :1].expand(3), "same": base}
    torch.save(state, tmp_path / "model.pt")
    weights = Weights.open(tmp_path / "model.pt")
    for name, truth in state.items():
        np.testing.assert_array_equal(weights.tensor(name, tuple(truth.shape)), truth.numpy())


class Bomb:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def nested(call: Any, *arguments: Any) -> dict[str, Any]:
    return {"weight": torch.ones(2), "more": OrderedDict(deep=[Bomb(call, *arguments)])}


@pytest.mark.parametrize(
    ("name", "bomb"),
    [
        ("system", lambda mark: nested(os.system, f"touch {mark}")),
        ("eval", lambda mark: nested(eval, f"open({str(mark)!r}, 'w')")),
        ("open", lambda mark: nested(io.open, str(mark), "w")),
        ("getattr", lambda mark: nested(getattr, "text", "upper")),
        ("_load_from_bytes", lambda mark: {"weight": torch.ones(2).untyped_storage()}),
    ],
)
def test_no_code_runs(tmp_path: Path, name: str, bomb: Callable[[Path], Any]) -> None:
    mark = tmp_path / "ran"
    torch.save(bomb(mark), tmp_path / "pytorch_model.bin")
    with pytest.raises((UnsafeFile, WeightsError), match=f"{name}|UntypedStorage"):
        Weights.open(tmp_path)
    assert not mark.exists()


def zipped(path: Path, pickled: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_dotted_names_reach_nothing(tmp_path: Path) -> None:
    """Protocol 4 may ask for attributes of what is allowed, such as a function's globals."""
    for module, name in (("torch._utils", "_rebuild_tensor_v2.__globals__"), ("collections", "OrderedDict.fromkeys")):
        parts = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
        pickled = b"\x80\x04" + parts + b"\x93."
        with pytest.raises(UnsafeFile, match=name):
            Weights.open(zipped(tmp_path / "model.pt", pickled))


def test_a_tensor_must_stay_inside_its_storage(tmp_path: Path) -> None:
    class Storage:
        def __reduce__(self) -> Any:
            return torch.FloatStorage, ()

    class Out(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(obj, Storage) else None

    for offset, size, stride in (
        (0, (5,), (1,)),
        (3, (2,), (1,)),
        (0, (2, 2), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
    ):
        buffer = io.BytesIO()
        rebuild = torch._utils._rebuild_tensor_v2
        Out(buffer, 2).dump({"w": Bomb(rebuild, Storage(), offset, size, stride, False, OrderedDict())})
        path = zipped(tmp_path / "model.pt", buffer.getvalue(), archive__data__0=b"\0" * 16)
        with pytest.raises(WeightsError, match="damaged"):
            Weights.open(path)


def test_other_files_called_bin(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFile, match=r"old format.*save_file"):
        Weights.open(tmp_path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(WeightsError, match="list, not a state dict"):
        Weights.open(tmp_path)
    torch.save({"step": 3, "a": torch.ones(2)}, path)
    with pytest.raises(WeightsError, match="'step' is int, not a tensor"):
        Weights.open(tmp_path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match="no torch checkpoint"):
        Weights.open(tmp_path)
    zipped(path, b"", archive__constants__pkl=b"", **{"archive__constants.pkl": b""})
    with pytest.raises(UnsafeFile, match="TorchScript"):
        Weights.open(tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(WeightsError, match="compressed"):
        Weights.open(tmp_path)


def test_cut_safetensors(tmp_path: Path) -> None:
    path = write_safe(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 4, 8, 100, header - 1, header, header + 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"model\.safetensors is (cut short|damaged)"):
            Weights.open(tmp_path)
    path.write_bytes(whole + b"more")
    with pytest.raises(WeightsError, match="header describes"):
        Weights.open(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"w": 3}', "entry of w is incomplete"),
        (b'{"w": {"dtype": "F32", "shape": [2]}}', "entry of w is incomplete"),
        (b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}', "makes no sense"),
        (b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', "needs 12 bytes, has 8"),
        (b'{"w": {"dtype": "F32", "shape": [99999999999, 99999999999], "data_offsets": [0, 8]}}', "needs 3999"),
    ],
)
def test_damaged_safetensors_header(tmp_path: Path, header: bytes, message: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(WeightsError, match=message):
        Weights.open(tmp_path)


def test_a_dtype_of_no_use_harms_only_who_asks_for_it(tmp_path: Path) -> None:
    header = b'{"w": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    weights = Weights.open(tmp_path)
    with pytest.raises(WeightsError, match="F8_E4M3"):
        weights.tensor("w", (8,))


@pytest.mark.parametrize("write", [write_safe, write_torch])
def test_any_damage_is_a_refusal(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    write(tmp_path)
    path = next(tmp_path.glob("*model*"))
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))]))
        try:
            weights = Weights.open(tmp_path)
            for name, stored in weights._contents.tensors.items():
                weights.tensor(name, stored.shape)
        except ModelRefused:
            continue


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights .*model\.safetensors"):
        Weights.open(tmp_path)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    with pytest.raises(WeightsError, match=r"It has onnx.model\.onnx: that format is not read"):
        Weights.open(tmp_path)


def test_digest_names_the_contents(tmp_path: Path, cache: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        write_safe(folder)
    digest = Weights.open(one).digest
    assert len(digest) == 64 and digest == Weights.open(two).digest
    notes = list((cache / "digests").iterdir())
    assert len(notes) == 2
    notes[0].write_text("0" * 64)
    assert {Weights.open(one).digest, Weights.open(two).digest} > {digest}, "the cache is used"
    save_file({"w": torch.ones(3)}, two / "model.safetensors")
    assert Weights.open(two).digest not in (digest, "0" * 64)


def test_digest_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("NEARFIELD_CACHE", str(blocked))
    assert len(Weights.open(write_safe(tmp_path)).digest) == 64

"""Encoders that a model ships as ONNX or OpenVINO files, against sentence-transformers over the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.errors import ModelRefused
from tests.parity.dense import expect
from tests.support import tiny_models

TEXTS = ["The quick brown fox", "", "river bank water " * 30, "sun"]


def ir(folder: Path, name: str = "openvino/openvino_model.xml") -> str:
    """Write the OpenVINO file that optimum-intel writes: the transformer alone."""
    import openvino as ov
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    example = {name: torch.ones(1, 4, dtype=torch.long) for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        converted = ov.convert_model(model, example_input=example)
    ov.save_model(converted, folder / name, compress_to_fp16=False)
    return name


def onnx(folder: Path, name: str = "onnx/model.onnx") -> str:
    """Write the ONNX file that optimum writes."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    (folder / name).parent.mkdir()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 7, dtype=torch.long) for _ in names)
    shapes = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")} for name in names}
    torch.onnx.export(
        model, example, folder / name, input_names=names, output_names=["last_hidden_state"], dynamic_shapes=shapes
    )
    return name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("export", [ir, onnx])
def test_agrees_with_the_reference(tmp_path: Path, export: Any) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model", dense=[{"out": 24}])
    file = export(folder)
    truth = expect(folder, TEXTS)
    with Encoder(str(folder), precision="float32") as encoder:
        own = encoder.fingerprint
    (folder / "model.safetensors").unlink()
    with Encoder(str(folder), file=file, precision="float32") as encoder:
        np.testing.assert_allclose(encoder.encode(TEXTS), truth, atol=2e-5)
        np.testing.assert_allclose(encoder.encode(TEXTS[3]), truth[3], atol=2e-5)
        assert encoder.fingerprint != own
    with pytest.raises(ModelRefused, match="has no weights"):
        Encoder(str(folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_file(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    folder = tiny_models.tiny_bert(tmp_path / "model", initializer_range=0.1)
    plain = onnx(folder)
    small = folder / "onnx" / "model_quint8_avx2.onnx"
    quantize_dynamic(folder / plain, small, weight_type=QuantType.QUInt8)
    with Encoder(str(folder), file=str(small.relative_to(folder)), precision="float32") as encoder:
        found = np.asarray(encoder.encode(TEXTS))
    cosines = (found * np.stack(expect(folder, TEXTS))).sum(1)
    assert cosines.min() > 0.99 and not np.allclose(cosines, 1, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_refusals(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model")
    with pytest.raises(ModelRefused, match="There is no file"):
        Encoder(str(folder), file="onnx/model.onnx")
    with pytest.raises(ModelRefused, match="neither an ONNX file nor an OpenVINO model"):
        Encoder(str(folder), file="model.safetensors")
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelRefused, match="cannot be read by OpenVINO"):
        Encoder(str(folder), file="model.onnx")

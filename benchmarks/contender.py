"""One engine in a separate process, which encodes and times workloads on requests in JSON lines.

Run as ``python -m benchmarks.contender NAME FOLDER``. Each loads the same folder and encodes with its own defaults.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.evaluation.performance.workloads import texts

Encode = Callable[[list[str]], Any]
MAX_LENGTH = 256


def nearfield(folder: Path, precision: str) -> Encode:
    """Nearfield in process."""
    from nearfield import Encoder

    encoder = Encoder(str(folder), precision=precision)
    return lambda batch: np.asarray(encoder.encode(batch))


def sentence_transformers(folder: Path, dtype: str) -> Encode:
    """sentence-transformers with its defaults, but for the number format."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"torch_dtype": getattr(torch, dtype)})
    model.max_seq_length = MAX_LENGTH
    return lambda batch: model.encode(batch)


def fastembed(folder: Path) -> Encode:
    """fastembed on the same weights, exported to ONNX in float32."""
    return load_fastembed(onnx_folder(folder), json.loads((folder / "config.json").read_text())["hidden_size"])


def onnx_folder(folder: Path) -> Path:
    """Write a folder from which fastembed loads a model, with the same weights in float32; return it."""
    import shutil

    home = Path(tempfile.mkdtemp(prefix="nearfield-bench-onnx-"))
    for path in folder.glob("*"):
        if path.suffix in (".json", ".txt"):
            shutil.copy(path, home)
    _truncating(home)
    export(folder, home / "model.onnx")
    return home


def load_fastembed(home: Path, size: int) -> Encode:
    """Load a folder of ``onnx_folder`` in fastembed."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "benchmark/model"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=size,
        model_file="model.onnx",
    )
    model = TextEmbedding(name, specific_model_path=str(home))
    return lambda batch: np.stack(list(model.embed(batch)))


def _truncating(home: Path) -> None:
    """Store the length that all contenders use: fastembed reads it from the tokenizer's settings."""
    path = home / "tokenizer_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "max_length": MAX_LENGTH, "model_max_length": MAX_LENGTH})
    )


def export(folder: Path, target: Path) -> None:
    """Export the transformer to ONNX, with its inputs named as fastembed feeds them."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class Backbone(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    # Three tensors, not one: the exporter takes the same object for the same input.
    ids, mask, types = (
        torch.arange(32).reshape(2, 16),
        torch.ones(2, 16, dtype=torch.long),
        torch.zeros(2, 16, dtype=torch.long),
    )
    names = ["input_ids", "attention_mask", "token_type_ids"]
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2, max=512)
    shapes = {name: {0: batch, 1: length} for name in names}
    with torch.inference_mode():
        torch.onnx.export(
            Backbone(),
            (ids, mask, types),
            str(target),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes=shapes,
            dynamo=True,
        )


CONTENDERS: dict[str, Callable[[Path], Encode]] = {
    "nearfield": lambda folder: nearfield(folder, "auto"),
    "nearfield float32": lambda folder: nearfield(folder, "float32"),
    "sentence-transformers": lambda folder: sentence_transformers(folder, "float32"),
    "sentence-transformers bfloat16": lambda folder: sentence_transformers(folder, "bfloat16"),
    "fastembed": fastembed,
}


def main() -> None:
    """Load, then answer each line ``{"workload": name, "quick": bool}`` with seconds and resident memory."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr
    started = time.perf_counter()
    encode = CONTENDERS[name](folder)
    sample = encode(texts("mixed", quick=True)[:8])
    tell = {"loaded": time.perf_counter() - started, "sample": np.asarray(sample, np.float64).round(6).tolist()}
    print(json.dumps(tell), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        batch = texts(asked["workload"], quick=asked["quick"], seed=asked.get("seed", 0))
        started = time.perf_counter()
        encode(batch)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "texts": len(batch), "rss": _rss()}), file=answers, flush=True)


def _rss() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()

"""One engine of ``benchmarks.peers``, in a process with the Python where it is installed.

Runs as ``PYTHON -m benchmarks.peer_engines NAME FOLDER EXPORTS``. Of Nearfield, only its own engines may be imported:
other environments lack it. Quantised files are exported once, into EXPORTS, before the time of loading counts.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], Any]
#: Exports what the engine reads into the second folder, from the model in the first; returns what loads it.
Prepare = Callable[[Path, Path], Callable[[], Encode]]


def nearfield(folder: Path, _: Path, precision: str = "auto") -> Callable[[], Encode]:
    """Nearfield in process."""

    def load() -> Encode:
        from nearfield import Encoder

        return Encoder(str(folder), precision=precision).encode

    return load


def sentence_transformers(folder: Path, _: Path) -> Callable[[], Encode]:
    """sentence-transformers with its defaults, in float32."""
    return partial(_sentence_transformer, folder)


def onnx_int8(folder: Path, exports: Path) -> Callable[[], Encode]:
    """sentence-transformers' ONNX backend, with inputs of products quantised as they come."""
    from sentence_transformers import export_dynamic_quantized_onnx_model as quantize

    unit = _unit()
    home = _exported(folder, exports / "onnx", "onnx", partial(quantize, quantization_config=unit))
    return partial(_sentence_transformer, home, backend="onnx", file=f"model_qint8_{unit}.onnx")


def _unit() -> str:
    """Return the library's name for the best instructions of this CPU."""
    if platform.machine() in ("aarch64", "arm64"):
        return "arm64"
    return "avx512_vnni" if "avx512_vnni" in Path("/proc/cpuinfo").read_text() else "avx2"


def openvino_int8(folder: Path, exports: Path) -> Callable[[], Encode]:
    """sentence-transformers' OpenVINO backend, calibrated on the texts that ``benchmarks.peers`` has written."""
    from sentence_transformers import export_static_quantized_openvino_model

    quantize = partial(
        export_static_quantized_openvino_model,
        quantization_config=None,
        dataset_name=str(exports / "calibration"),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )
    home = _exported(folder, exports / "openvino", "openvino", quantize)
    return partial(_sentence_transformer, home, backend="openvino", file="openvino_model_qint8_quantized.xml")


def _exported(folder: Path, home: Path, backend: str, quantize: Callable[..., None]) -> Path:
    """Write a folder of a backend with a quantised model, unless it is there."""
    if not home.is_dir():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", backend=backend, model_kwargs={"export": True})
        model.save_pretrained(str(home))
        quantize(model, model_name_or_path=str(home))
    return home


def _sentence_transformer(folder: Path, backend: str = "torch", file: str = "") -> Encode:
    from sentence_transformers import SentenceTransformer

    files = {"file_name": file} if file else {}
    return SentenceTransformer(str(folder), device="cpu", backend=backend, model_kwargs=files).encode


def fastembed(folder: Path, exports: Path, *, quantized: bool) -> Callable[[], Encode]:
    """fastembed on the same weights in ONNX, in float32 or with its matrices in int8."""
    from benchmarks.contender import load_fastembed, onnx_folder

    home = exports / f"fastembed-{'int8' if quantized else 'float32'}"
    if not home.is_dir():
        onnx_folder(folder).rename(home)
        if quantized:
            from onnxruntime.quantization import quantize_dynamic  # type: ignore[import-untyped]

            quantize_dynamic(home / "model.onnx", home / "model.onnx")
    return partial(load_fastembed, home, json.loads((folder / "config.json").read_text())["hidden_size"])


def embed_anything(folder: Path, exports: Path) -> Callable[[], Encode]:
    """EmbedAnything, which computes with candle. It reads the Hub's cache, so that the model is put into one."""
    revision, model = "0" * 40, exports / "hub" / "hub" / "models--local--model"
    if not model.is_dir():
        for name in ("refs", "snapshots"):
            (model / name).mkdir(parents=True)
        (model / "refs" / "main").write_text(revision)
        (model / "snapshots" / revision).symlink_to(folder)
    os.environ["HF_HOME"] = str(exports / "hub")

    def load() -> Encode:
        from embed_anything import EmbeddingModel, embed_query  # type: ignore[import-not-found]

        loaded = EmbeddingModel.from_pretrained_hf(model_id="local/model")
        return lambda batch: np.array([row.embedding for row in embed_query(batch, embedder=loaded)])

    return load


def llama_cpp(_: Path, exports: Path) -> Callable[[], Encode]:
    """llama.cpp on the file that ``benchmarks.peers`` has written."""

    def load() -> Encode:
        from llama_cpp import Llama  # type: ignore[import-not-found]

        path = next(exports.glob("gguf/*-Q8_0.gguf"))
        model = Llama(str(path), embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, verbose=False)
        return lambda batch: np.array(model.embed(batch, normalize=True))

    return load


ENGINES: dict[str, Prepare] = {
    "nearfield": nearfield,
    "nearfield int8": partial(nearfield, precision="int8"),
    "nearfield int8-dynamic": partial(nearfield, precision="int8-dynamic"),
    "sentence-transformers": sentence_transformers,
    "sentence-transformers ONNX int8": onnx_int8,
    "sentence-transformers OpenVINO int8": openvino_int8,
    "fastembed": partial(fastembed, quantized=False),
    "fastembed int8": partial(fastembed, quantized=True),
    "EmbedAnything": embed_anything,
    "llama.cpp Q8_0": llama_cpp,
}


def measure(encode: Encode, request: dict[str, Any]) -> dict[str, float]:
    """Encode texts together, or each by itself (``single``); write the vectors to ``out`` where that is named."""
    texts, started, spent = request["texts"], time.perf_counter(), time.process_time()
    results = [encode([text]) for text in texts] if request.get("single") else encode(texts)
    answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - spent}
    if request.get("out"):
        np.save(request["out"], np.asarray(results, np.float32))
    return answer


def main() -> None:
    """Load, then answer each line of standard input."""
    name, folder, exports = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    answers, sys.stdout = sys.stdout, sys.stderr
    load = ENGINES[name](folder, exports)
    started = time.perf_counter()
    encode = load()
    encode(["A text that makes the engine ready."])
    print(json.dumps({"loaded": time.perf_counter() - started}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(encode, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

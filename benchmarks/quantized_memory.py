"""Peak memory of loading a decoder of 7B shape in int8 and int4: ``python -m benchmarks.quantized_memory --layers 8``.

The model has the widths of Mistral 7B and random weights in bfloat16, written shard by shard; 32 layers are all of it.
With ``--gguf`` it is a GGUF file in F16 with the widths of Qwen3-0.6B; 32 layers have 1 GB. Each precision is loaded in
a new process, which encodes one text.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from benchmarks.model_shapes import write_model
from nearfield import Encoder
from nearfield.hardware import memory_resident, memory_used
from nearfield.testing import write_tiny_model
from tests.support import gguf_files

HIDDEN, INNER, KEYS, VOCABULARY = 4096, 14336, 1024, 32_000
#: Matrices of a layer, [outputs, inputs].
MATRICES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
NORMS = ("input_layernorm", "post_attention_layernorm")
_CONFIG = {
    "model_type": "mistral",
    "architectures": ["MistralModel"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": VOCABULARY,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "sliding_window": None,
    "attention_bias": False,
}


def write_decoder(folder: Path, layers: int) -> int:
    """Write the model to a folder, one shard for each layer; return the bytes of its weights."""
    write_tiny_model(folder)
    (folder / "model.safetensors").unlink()
    config = {**_CONFIG, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_lasttoken": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    random = np.random.default_rng(0)
    first = {"embed_tokens.weight": _random(random, VOCABULARY, HIDDEN), "norm.weight": _ones()}
    places = _write_shard(folder, "first", first)
    layer = {f"{name}.weight": _random(random, *shape) for name, shape in MATRICES.items()}
    layer |= {f"{name}.weight": _ones() for name in NORMS}
    for number in range(layers):
        names = {f"layers.{number}.{name}": array for name, array in layer.items()}
        places |= _write_shard(folder, f"layer-{number}", names)
    index = json.dumps({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def write_gguf(folder: Path, layers: int) -> Path:
    """Write a GGUF file in F16 to a folder."""
    source = write_model("Qwen3-0.6B", folder, layers=layers)
    file = gguf_files.convert(source, "qwen3", "F16", pooling="lasttoken")
    (source / "model.safetensors").unlink()
    return file


def _random(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return normal values as the upper halves of float32, which is bfloat16."""
    values = random.standard_normal((rows, columns), np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _ones() -> np.ndarray:
    return np.full(HIDDEN, 0x3F80, np.uint16)


def _write_shard(folder: Path, name: str, tensors: dict[str, np.ndarray]) -> dict[str, str]:
    file = f"{name}.safetensors"
    specs = {
        key: TensorSpec(dtype="bfloat16", shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for key, array in tensors.items()
    }
    serialize_file(specs, folder / file)
    return dict.fromkeys(tensors, file)


def load(folder: str, precision: str) -> None:
    """Load the model, encode one text, and print the peaks of memory in bytes: its own, and with mapped files."""
    peaks, done = [0, 0], threading.Event()
    before, started = memory_used() or 0, time.perf_counter()

    def watch() -> None:
        while not done.wait(0.02):
            peaks[:] = max(peaks[0], memory_used() or 0), max(peaks[1], memory_resident() or 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Encoder(folder, precision=precision, compile_cache=False) as encoder:
        encoder.encode("the quick brown fox")
        facts = {"precision": encoder.precision, "seconds": round(time.perf_counter() - started, 1)}
        done.set()
        watcher.join()
        facts |= {"peak": peaks[0] - before, "peak_with_files": peaks[1], "loaded": (memory_used() or 0) - before}
    print(json.dumps(facts))


def main() -> None:
    """Write the model, load it in each precision, and print one line for each."""
    parser = argparse.ArgumentParser(prog="benchmarks.quantized_memory", description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--gguf", action="store_true", help="a GGUF file in F16")
    parser.add_argument("--precision", action="append", help="may be repeated [all that the file is for]")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    precisions = options.precision or [*(["float32", "auto"] if options.gguf else []), "int8", "int4"]
    if options.load:
        load(options.load, precisions[0])
        return
    with tempfile.TemporaryDirectory(prefix="nearfield-decoder-") as place:
        model = Path(place)
        if options.gguf:
            model = write_gguf(model, options.layers)
            size = model.stat().st_size
        else:
            size = write_decoder(model, options.layers)
        print(f"{options.layers} layers, {size / 2e9:.2f} billion values, {size / 1e9:.2f} GB in 16 bits", flush=True)
        for precision in precisions:
            names = ["--load", str(model), "--precision", precision]
            command = [sys.executable, "-m", "benchmarks.quantized_memory", *names]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()

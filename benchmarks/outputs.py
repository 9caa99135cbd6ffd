"""Cost of several outputs, adapters and sparse logits relative to dense vectors only, in one run."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.evaluation.performance.workloads import texts

#: bge-m3's width and heads at two layers, over a small vocabulary: its heads cost most where the encoder costs least.
M3 = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 2}
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
WIDE: dict[str, Any] = {"r": 8, "target_modules": ["query", "key", "value", "dense"]}


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return ratios of times, and of memory, to the same model's dense vectors."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return {
            "bge-m3's three outputs / dense": _several(_m3(folder / "m3"), rounds, quick),
            "three adapters at once / none": _adapters(folder, rounds, quick),
            "memory of an adapter / its own size": _adapter_memory(folder),
            "memory of SPLADE / dense, 32 x 512": _memory(folder),
        }


def _m3(folder: Path) -> Path:
    import torch

    from tests.support import tiny_models

    out = tiny_models.tiny_xlm_roberta(folder, pooling="cls", **M3, max_position_embeddings=514, initializer_range=0.02)
    torch.save({"weight": torch.randn(1, 1024), "bias": torch.randn(1)}, out / "sparse_linear.pt")
    torch.save({"weight": torch.randn(1024, 1024), "bias": torch.randn(1024)}, out / "colbert_linear.pt")
    return out


def _several(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    from nearfield import Encoder

    batch = texts("mixed", quick=quick)[:128]
    with Encoder(str(folder)) as encoder:
        return _ratio(
            lambda: encoder.encode(batch, outputs=("dense", "sparse", "multivector")),
            lambda: encoder.encode(batch),
            rounds,
        )


def _adapters(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    """Compare a third of the texts for each of three adapters with all of them for none."""
    from nearfield import Encoder
    from tests.inference.test_adapters import lora
    from tests.support import tiny_models

    base = tiny_models.tiny_bert(folder / "bert", **BASE, num_hidden_layers=6, max_position_embeddings=512)
    adapters = {name: lora(base, folder / name, seed, **WIDE) for seed, name in enumerate("abc")}
    batch = texts("mixed", quick=quick)[:96]
    with Encoder(str(base)) as plain, Encoder(str(base), adapters=adapters) as adapted:

        def shared() -> None:
            tickets = [adapted.submit(batch[at::3], bulk=True, adapter=name) for at, name in enumerate(adapters)]
            for ticket in tickets:
                ticket.result()

        return _ratio(shared, lambda: plain.submit(batch, bulk=True).result(), rounds)


def _ratio(one: Any, other: Any, rounds: int) -> dict[str, float]:
    """Time both in turn and return the ratio's median and range."""
    one(), other()
    ratios = []
    for _ in range(max(3, rounds)):
        started = time.perf_counter()
        one()
        middle = time.perf_counter()
        other()
        ratios.append((middle - started) / (time.perf_counter() - middle))
    return {"median": round(float(np.median(ratios)), 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)}


def _adapter_memory(folder: Path) -> dict[str, float]:
    """Load and run one and eight adapters in a process each, and compare what seven more add with their files' size."""
    from tests.inference.test_adapters import lora
    from tests.support import tiny_models

    base = tiny_models.tiny_bert(folder / "base", **BASE, num_hidden_layers=12, max_position_embeddings=512)
    paths = [lora(base, folder / f"adapter{seed}", seed, **WIDE) for seed in range(8)]
    own = sum(file.stat().st_size for file in paths[0].glob("*.safetensors")) / 1e6
    few, many = (_used(base, paths[:count]) for count in (1, len(paths)))
    grown = {when: (many[when] - few[when]) / (len(paths) - 1) for when in few}
    return {"own_mb": round(own, 1), **{f"ratio_{when}": round(mb / own, 2) for when, mb in grown.items()}}


def _used(base: Path, adapters: list[Path]) -> dict[str, float]:
    told = [sys.executable, "-m", "benchmarks.outputs", str(base), *map(str, adapters)]
    result: dict[str, float] = json.loads(subprocess.run(told, capture_output=True, check=True).stdout)
    return result


def with_adapters(base: str, *adapters: str) -> dict[str, float]:
    """Return the process's own memory, MB, after loading and after batches for each of the adapters."""
    from nearfield import Encoder
    from nearfield.hardware import return_memory

    def used() -> float:
        gc.collect()
        return_memory()
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024 / 1e6

    with Encoder(base, adapters={Path(each).name: each for each in adapters}) as encoder:
        found = {"loaded": used()}
        for name in encoder.adapters * 2:
            encoder.encode(
                [f"{at} " + "the small house by the river bank " * (at % 6 + 1) for at in range(48)], adapter=name
            )
        return {**found, "run": used()}


def _memory(folder: Path) -> dict[str, float]:
    """Run one batch of 32 x 512 tokens in a separate process, and compare the growth of its peak memory."""
    peaks = {}
    for kind in ("dense", "sparse"):
        made = _bert(folder / kind, kind)
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.outputs", str(made)], capture_output=True, text=True, check=True
        )
        peaks[kind] = json.loads(result.stdout.splitlines()[-1])
    return {
        "dense_mib": peaks["dense"]["batch_mib"],
        "sparse_mib": peaks["sparse"]["batch_mib"],
        "ratio_of_peaks": round(peaks["sparse"]["peak_mib"] / peaks["dense"]["peak_mib"], 2),
    }


def _bert(folder: Path, kind: str) -> Path:
    """Write BERT-base of two layers with its true vocabulary size; as SPLADE with its language-model head."""
    import torch
    import transformers

    from tests.support import tiny_models

    base = tiny_models.tiny_bert(folder / "tiny")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base)
    config = transformers.BertConfig(**BASE, num_hidden_layers=2, vocab_size=30522)
    out = folder / "out"
    torch.manual_seed(0)
    model: Any = (transformers.BertForMaskedLM if kind == "sparse" else transformers.BertModel)(config)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def one_batch(folder: str) -> dict[str, float]:
    """Run one batch of 32 x 512 tokens and return the peak of memory, and what the batch added."""
    import resource

    from nearfield.checkpoint import model_folder as reader
    from nearfield.engine.engine import Batch, Ticket
    from nearfield.inference.compiled_model import CompiledModel

    kind = "sparse" if "sparse" in folder else "dense"
    model = CompiledModel(reader.read_model_folder(Path(folder), kind=kind), max_length=512)
    lane = model.create_lane_function()
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ids = np.random.default_rng(0).integers(10, 200, (32, 512)).tolist()
    lane(Batch(model, Ticket.from_ids(model, ids).jobs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": round(peak), "batch_mib": round(peak - loaded)}


if __name__ == "__main__":
    print(json.dumps(with_adapters(*sys.argv[1:]) if sys.argv[2:] else one_batch(sys.argv[1])))

"""What transformers' processors of videos do, where torchvision, which they need to be loaded, is not installed."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

#: Values of a saved file of EmbeddingGemma 2, but for small patches.
GEMMA_VIDEO: dict[str, Any] = {
    "video_processor_type": "EmbeddingGemma2VideoProcessor",
    "add_timestamps": True,
    "default_to_square": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "do_sample_frames": True,
    "fps": 1,
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
    "max_frames": 32,
    "max_soft_tokens": 140,
    "overflow_strategy": "uniform",
    "patch_size": 4,
    "pooling_kernel_size": 3,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "return_metadata": False,
}
#: Values of a saved file of Qwen3-VL, but for small patches and budgets.
QWEN_VIDEO: dict[str, Any] = {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "data_format": "channels_first",
    "default_to_square": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "do_sample_frames": True,
    "fps": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_frames": 7,
    "max_video_tokens": 768,
    "merge_size": 2,
    "min_frames": 3,
    "patch_size": 4,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "return_metadata": False,
    "size": {"longest_edge": 7 * 32 * 40, "shortest_edge": 64},
    "temporal_patch_size": 2,
}


def _method(module: str, name: str, **places: Any) -> Any:
    """Return a method of transformers that is compiled from its source, as its module needs torchvision."""
    import transformers

    source = Path(transformers.__file__).parent / "models" / module
    parts = ast.walk(ast.parse(source.read_text(encoding="utf-8")))
    found = next(part for part in parts if isinstance(part, ast.FunctionDef) and part.name == name)
    found.returns = None
    for argument in found.args.args:
        argument.annotation = None
    scope = {"np": np, "logger": SimpleNamespace(warning_once=lambda text: None), **places}
    exec(compile(ast.Module([found], []), str(source), "exec"), scope)
    return scope[name]


def gemma_indices(total: int, rate: float, **values: Any) -> list[int]:
    """Return the frames that the processor of EmbeddingGemma 2 chooses."""
    choose = _method("embedding_gemma2/video_processing_embedding_gemma2.py", "sample_frames")
    metadata = SimpleNamespace(total_num_frames=total, fps=rate, duration=total / rate)
    keys = ("fps", "max_frames", "overflow_strategy")
    chosen = choose(SimpleNamespace(), metadata, **{key: {**GEMMA_VIDEO, **values}[key] for key in keys})
    indices: list[int] = chosen.tolist()
    return indices


def gemma_text(seconds: list[float], rows: int, tokens: Any, *, add_timestamps: bool) -> str:
    """Return what the processor of EmbeddingGemma 2 writes for a video of frames with ``rows`` rows each."""
    from transformers import EmbeddingGemma2Processor

    processor: Any = SimpleNamespace(timestamp_fmt=EmbeddingGemma2Processor.timestamp_fmt, **tokens)
    inputs = {
        "num_soft_tokens_per_video": [rows],
        "num_frames_per_video": [len(seconds)],
        "video_metadata": [SimpleNamespace(fps=1.0, timestamps=seconds)],
    }
    options = {"videos_kwargs": {"add_timestamps": add_timestamps}, "load_audio_from_video": False}
    processor.video_processor = SimpleNamespace(add_timestamps=add_timestamps)
    return str(EmbeddingGemma2Processor.replace_video_token(processor, inputs, 0, **options))


def qwen_indices(total: int, rate: float, values: Any) -> list[int]:
    """Return the frames that the processor of Qwen3-VL chooses."""
    choose = _method("qwen3_vl/video_processing_qwen3_vl.py", "sample_frames")
    processor = SimpleNamespace(**{key: values[key] for key in ("fps", "min_frames", "max_frames")})
    indices: list[int] = choose(processor, SimpleNamespace(total_num_frames=total, fps=rate)).tolist()
    return indices


def qwen_size(frames: int, height: int, width: int, values: Any) -> tuple[int, int]:
    """Return the size to which the processor of Qwen3-VL resizes frames."""
    import math

    module = "qwen3_vl/video_processing_qwen3_vl.py"
    size = SimpleNamespace(**values["size"])
    factor, temporal = values["patch_size"] * values["merge_size"], values["temporal_patch_size"]
    most = size.longest_edge
    if values.get("cap_pixels_per_frame"):
        # The lines of ``resize``, which calls its base class.
        share = min(values["max_video_tokens"] * factor * factor, size.longest_edge // frames)
        most = max(share, int(size.shortest_edge * 1.05)) * frames
    fit = _method(module, "smart_resize", math=math)
    rows, columns = fit(frames, height, width, temporal, factor, size.shortest_edge, most)
    return int(rows), int(columns)

"""Gemma 4's tower of sounds against transformers, on every backend, alone and beside other sounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends
from nearfield.backends import BackendOptions
from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.frame_processor import FrameProcessor, read_frame_processor
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import InputError, ModelRefused
from nearfield.families.towers.gemma4_audio import Gemma4Audio
from nearfield.features import FrameFeatures
from nearfield.hardware import CpuPlan
from nearfield.media.sound.sound_decoding import Sound
from nearfield.ops import Graph, Ops
from nearfield.packing import pack_rows
from tests.support import tiny_multimodal

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
#: Samples: of all remainders of frames by four, one of a single frame, and one in which attention does not see all.
LENGTHS = (3210, 3361, 3530, 3650, 170, 11_000)


def sound(number: int, length: int) -> Any:
    wave = np.random.default_rng(number).standard_normal(length).astype(np.float32)
    return wave * np.linspace(0.02, 0.4, length, dtype=np.float32)


def decoded(samples: Any) -> Sound:
    return Sound(samples, 16_000, b"", "wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_multimodal.embedding_gemma2_with_media(tmp_path_factory.mktemp("gemma") / "model", sounds=True)


@pytest.fixture(scope="module")
def waves() -> list[Any]:
    return [sound(number, length) for number, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def truth(folder: Path, waves: list[Any]) -> list[Any]:
    """Return what transformers computes of each sound."""
    import torch
    from transformers import EmbeddingGemma2Model

    model, extract = EmbeddingGemma2Model.from_pretrained(folder).eval(), extractor(folder)
    rows = []
    for wave in waves:
        batch = extract([wave], return_tensors="pt")
        with torch.no_grad():
            output = model.get_audio_features(batch["input_features"], batch["input_features_mask"])
        rows.append(output.pooler_output[output.attention_mask].numpy())
    return rows


def extractor(folder: Path) -> Any:
    from transformers import Gemma4AudioFeatureExtractor

    return Gemma4AudioFeatureExtractor(
        **json.loads((folder / "processor_config.json").read_text())["feature_extractor"]
    )


def processor(folder: Path) -> FrameProcessor:
    prepared = read_audio_processor(folder)
    assert isinstance(prepared, FrameProcessor)
    return prepared


def tower(folder: Path) -> Gemma4Audio:
    config = json.loads((folder / "config.json").read_text())
    return Gemma4Audio({**config["audio_config"], "text_hidden_size": config["text_config"]["hidden_size"]})


def rows_of(folder: Path, backend: str, items: Sequence[FrameFeatures]) -> list[Any]:
    """Return the rows of sounds that are computed as one batch."""
    family = tower(folder)
    weights = Weights.open(folder).first_scope(family.weight_prefixes)

    def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        rows = family.encode(run, weights, inputs)
        assert weights.untaken(family.unused_weights) == []
        return {"rows": rows}

    packed = pack_rows([item.cost for item in items])
    arrays: dict[str, Any] = {"segments": packed.segments, **family.host_inputs(packed.places)}
    arrays["patches"] = packed.place_rows([family.feature_arrays(item)["patches"] for item in items])
    graph = Graph(family.inputs, forward, ("rows",), sizes=family.sizes)
    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    rows = runtime.compile(graph).create_executor().run(arrays, ("rows",))["rows"]
    starts = packed.layout.row * packed.layout.width + packed.layout.start
    return [rows[start : start + item.cost] for start, item in zip(starts, items, strict=True)]


def test_frames_as_in_transformers(folder: Path, waves: list[Any]) -> None:
    prepare, extract = processor(folder), extractor(folder)
    for wave in waves:
        batch = extract([wave], return_tensors="np")
        expected = batch["input_features"][0][batch["input_features_mask"][0]]
        np.testing.assert_allclose(prepare.values(wave), expected, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_as_in_transformers(backend: str, folder: Path, waves: list[Any], truth: list[Any]) -> None:
    prepare = processor(folder)
    items = [prepare.prepare(decoded(wave))[0] for wave in waves]
    largest = max(float(np.abs(rows).max()) for rows in truth)
    assert largest > 0.1 and np.std(truth[0], axis=0).max() > 0.05  # rows of one sound differ
    for actual in (rows_of(folder, backend, items), [rows_of(folder, backend, [item])[0] for item in items[-2:]]):
        for ours, theirs in zip(actual, truth[-len(actual) :], strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 2e-5 * largest


def test_a_sound_without_a_whole_frame_is_refused_and_a_long_one_is_cut(folder: Path) -> None:
    prepare = processor(folder)
    with pytest.raises(InputError, match="A sound of 10 ms is too short"):
        prepare.prepare(decoded(np.zeros(160, np.float32)))
    (features,) = prepare.prepare(decoded(np.zeros(500_000, np.float32)))
    assert (features.cost, features.dropped) == (750, 31)


def test_the_values_of_the_published_file() -> None:
    stated = {"frame_length": 320, "hop_length": 160, "fft_length": 512, "preemphasis": 0.0, "dither": 0.0}
    found = read_frame_processor({**stated, "feature_extractor_type": "Gemma4AudioFeatureExtractor"}, "file")
    assert found == read_frame_processor({}, "file") and (found.rate, found.mel.bins) == (16_000, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dither": 0.1}, "dither 0.1 is not known here"),
        ({"preemphasis": 0.97}, "preemphasis 0.97 is not known here"),
        ({"fft_length": 1024}, "fft_length 1024 is not known here: it must be 512"),
        ({"mel_floor": 0}, "mel_floor must be a positive number"),
        ({"per_bin_mean": [1.0]}, "per_bin_mean must be null or 128 numbers"),
        ({"window": "hamming"}, "'window' is not known here"),
    ],
)
def test_values_of_a_processor_that_are_not_known_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        read_frame_processor(change, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_context_right": 2}, "a right one is 0"),
        ({"attention_context_left": 9}, "attention_context_left 9"),
        ({"conv_kernel_size": 11}, "conv_kernel_size 11 is not known here"),
        ({"subsampling_conv_channels": [6, 4]}, "6 mel bins"),
        ({"hidden_size": 36, "num_attention_heads": 8}, "cannot be split among 8 heads"),
    ],
)
def test_variants_that_are_not_known_are_refused(change: dict[str, Any], message: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())["audio_config"]
    with pytest.raises(ModelRefused, match=message):
        Gemma4Audio({**config, "text_hidden_size": 32, **change})

"""CLAP's towers against transformers, on random weights that transformers saved."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends, families
from nearfield.backends import BackendOptions
from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.towers.tower_modules import read_tower_modules
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families.clap import Clap
from nearfield.features import MelFeatures, MelLayout, morton, stretch
from nearfield.hardware import CpuPlan
from nearfield.heads.pooled import PooledHead
from nearfield.media.audio import read_sound
from nearfield.ops import Graph
from tests.media.test_audio import tone, written
from tests.support.tiny_clap import FULL, SMALL, save_clap

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("soundfile")

BACKENDS = [name for name in backends.REGISTRY.names() if name != "transformers"]
#: Flags of long sounds, one for each sound of a batch.
LONG = (True, False, True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that saves a model once, and returns its folder, the model, mels and their vectors."""

    @cache
    def save(size: str, fused: bool) -> tuple[Path, Any, Any]:
        folder = tmp_path_factory.mktemp("clap")
        model = save_clap(folder, **{"FULL": FULL, "SMALL": SMALL}[size], enable_fusion=fused)
        layout = Clap(_audio_config(folder)).layout
        mels = (
            20 * np.random.default_rng(3).standard_normal((3, 4 if fused else 1, layout.frames - 23, layout.bins)) - 40
        )
        mels = mels.astype(np.float32)
        with torch.inference_mode():
            vectors = model.get_audio_features(
                input_features=torch.from_numpy(mels), is_longer=torch.tensor(LONG)[:, None]
            )
        return folder, mels, np.asarray(getattr(vectors, "pooler_output", vectors))

    return save


def _audio_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())["audio_config"]
    return config


def _modules(folder: Path, tower: str) -> Any:
    config = json.loads((folder / "config.json").read_text())[f"{tower}_config"]
    return read_tower_modules(folder, config, Weights.open(folder))[0]


def _run(folder: Path, backend: str, mels: Any, flags: tuple[bool, ...]) -> Any:
    family = families.resolve(_audio_config(folder))
    assert isinstance(family, Clap)
    head = PooledHead(_modules(folder, "audio"))
    weights = Weights.open(folder).first_scope(family.weight_prefixes)

    def forward(run: Any, inputs: Any) -> Any:
        hidden = family.encode(run, weights, inputs)
        assert not weights.untaken(family.unused_weights)
        return {"dense": head.build(run, hidden, inputs, family, weights)}

    names = (*family.inputs, *head.inputs)
    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    executor = runtime.compile(Graph(names, forward, ("dense",), sizes=family.sizes)).create_executor()
    features = [MelFeatures(mel, family.layout, flag) for mel, flag in zip(mels, flags, strict=True)]
    count = family.layout.count
    assert {one.cost for one in features} == {count}
    inputs = {
        "patches": np.stack([one.arrays()["patches"] for one in features]),
        "positions": np.tile(np.arange(count, dtype=np.int32), (len(features), 1)),
        "pool.mean": np.full((len(features), 1, count), 1 / count, np.float32),
    }
    return executor.run(inputs, ("dense",))["dense"][:, 0]


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_small_tower(saved: Any, backend: str, fused: bool) -> None:
    folder, mels, expected = saved("SMALL", fused)
    np.testing.assert_allclose(_run(folder, backend, mels, LONG), expected, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
def test_a_tower_with_the_grid_of_published_models(saved: Any, backend: str, fused: bool) -> None:
    folder, mels, expected = saved("FULL", fused)
    np.testing.assert_allclose(_run(folder, backend, mels, LONG), expected, atol=1e-5)
    alone = [_run(folder, backend, mels[i : i + 1], LONG[i : i + 1])[0] for i in range(len(mels))]
    np.testing.assert_allclose(alone, expected, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_from_a_file_to_its_vector(saved: Any, fused: bool) -> None:
    folder, _, _ = saved("FULL", fused)
    extractor = transformers.ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc", frequency_min=50)
    extractor.save_pretrained(folder)
    processor = read_audio_processor(folder)
    assert processor is not None
    sound = read_sound(written(tone(3.3, 44_100, 2), 44_100), processor.rate)
    (features,) = processor.prepare(sound)
    assert isinstance(features, MelFeatures)
    expected = extractor(sound.samples, sampling_rate=48_000, return_tensors="pt")
    model = transformers.ClapModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model.get_audio_features(expected["input_features"], is_longer=torch.tensor([[False]]))
    vector = _run(folder, "openvino", features.mels[None], (features.is_long,))[0]
    np.testing.assert_allclose(vector, getattr(states, "pooler_output", states)[0], atol=2e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec_size": 224}, "mel bins"),
        ({"patch_stride": [2, 2]}, "patch_stride"),
        ({"patch_size": [4, 2]}, "not square"),
        ({"window_size": 7}, "window_size"),
        ({"window_size": 16}, "window_size"),
        ({"hidden_size": 99}, "hidden_size 99"),
        ({"depths": 4}, "depths"),
        ({"num_attention_heads": [1, 2]}, "num_attention_heads"),
        ({"num_attention_heads": [3, 2, 2, 4]}, "num_attention_heads"),
        ({"hidden_act": "mish"}, "hidden_act"),
        ({"enable_fusion": True, "fusion_type": "channel_map"}, "channel_map"),
        ({"num_mel_bins": "64"}, "num_mel_bins"),
        ({"flatten_patch_embeds": False}, "flatten_patch_embeds"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, Any], message: str) -> None:
    config = {"model_type": "clap_audio_model", **FULL, "hidden_size": 64}
    assert Clap(config).hidden_size == 64
    with pytest.raises(ModelRefused, match=message):
        Clap({**config, **change})


def test_an_unknown_projection_is_refused(saved: Any) -> None:
    folder, _, _ = saved("SMALL", False)
    config = {**_audio_config(folder), "projection_hidden_act": "mish"}
    with pytest.raises(ModelRefused, match="projection_hidden_act 'mish'"):
        read_tower_modules(folder, config, Weights.open(folder))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_tower_of_texts(saved: Any, backend: str) -> None:
    folder, _, _ = saved("SMALL", False)
    ids = np.array([[0, 7, 9, 33, 2], [0, 4, 4, 50, 2]])
    model = transformers.ClapModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model.get_text_features(torch.from_numpy(ids), attention_mask=torch.ones(2, 5))
    config = json.loads((folder / "config.json").read_text())["text_config"]
    family, head = families.resolve(config), PooledHead(_modules(folder, "text"))
    weights = Weights.open(folder).first_scope(family.weight_prefixes)

    def forward(run: Any, inputs: Any) -> Any:
        hidden = family.encode(run, weights, inputs)
        assert not weights.untaken(family.unused_weights)
        return {"dense": head.build(run, hidden, inputs, family, weights)}

    places = np.tile(np.arange(5, dtype=np.int32), (2, 1))
    inputs = {"ids": ids.astype(np.int32), "segments": np.ones((2, 5), np.int32), **family.host_inputs(places)}
    inputs["pool.cls"] = np.eye(1, 5, dtype=np.float32)[None].repeat(2, 0)
    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    graph = Graph((*family.inputs, *head.inputs), forward, ("dense",), sizes=family.sizes)
    vectors = runtime.compile(graph).create_executor().run(inputs, ("dense",))["dense"][:, 0]
    np.testing.assert_allclose(vectors, getattr(expected, "pooler_output", expected), atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(1001, 1024), (998, 1024), (2, 1024), (1, 16), (256, 256)])
def test_stretching_is_torch_s(before: int, after: int) -> None:
    mel = 40 * np.random.default_rng(0).standard_normal((before, 5)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(mel[None, None]), (after, 5), mode="bicubic", align_corners=True
    )
    np.testing.assert_allclose(stretch(mel, after), expected[0, 0], atol=2e-4)


def test_morton_order_keeps_blocks_together() -> None:
    row, column = morton(8)
    assert sorted(zip(row.tolist(), column.tolist(), strict=True)) == [(r, c) for r in range(8) for c in range(8)]
    assert list(zip(row[:4].tolist(), column[:4].tolist(), strict=True)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for edge in (2, 4):
        blocks = (row // edge * 8 + column // edge).reshape(-1, edge**2)
        assert (blocks == blocks[:, :1]).all()


def test_equal_digests_mean_equal_values() -> None:
    mels = np.zeros((1, 1001, 64), np.float32)
    features = MelFeatures(mels, MelLayout())
    assert features.digest() == MelFeatures(mels.copy(), MelLayout()).digest()
    assert features.digest() != MelFeatures(mels + 1, MelLayout()).digest()
    assert features.digest() != MelFeatures(mels, MelLayout(), is_long=True).digest()
    assert MelFeatures(mels, MelLayout(), content=b"x").digest() == b"x"
    assert features.arrays()["patches"].shape == (64, 1024)

"""``feature_extractors``: names and parameters of extractors become features and segments, and others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.config import CollectionConfig, load_config, merge_config, parse_config
from nearfield.corpus.extractors.feature_extractors import EXTRACTORS
from nearfield.errors import InputError
from tests.support.paths import ROOT


def extract(*specs: str | Mapping[str, Any], **parts: Any) -> CollectionConfig:
    return parse_config({**parts, "feature_extractors": list(specs)})


def test_names_become_features() -> None:
    config = extract("text_extractor", "image_extractor", "multimodal_extractor", "audio_fingerprint_extractor")
    assert {name: feature.media for name, feature in config.features.items()} == {
        "text": ("text",),
        "image": ("image", "page"),
        "multimodal": ("image", "video"),
        "sound": ("audio",),
    }
    assert config.segments.audio.time_split_interval == 5.0
    assert config.segments.video == CollectionConfig().segments.video
    assert parse_config(config.to_dict()) == config


def test_parameters_set_parts_of_the_definition() -> None:
    video: dict[str, Any] = {
        "split_method": "scene",
        "time_split_interval": 4,
        "max_segment_duration": 20,
        "run_ocr": True,
    }
    video["run_transcription"] = True
    text = {"model": "minilm", "chunk_strategy": "sentence", "chunk_size": 100, "chunk_overlap": 10, "language": "de"}
    config = extract(
        {"feature_extractor_name": "multimodal_extractor", "version": "v1", "parameters": {**video, "fps": 2}},
        {"feature_extractor_name": "text_extractor", "parameters": text},
    )
    segments = config.segments.video
    assert (segments.split_method, segments.time_split_interval, segments.max_segment_duration) == ("scene", 4, 20)
    assert (segments.fps, config.ocr, config.language) == (2, True, "de")
    assert config.speech is True
    assert (config.chunks.by, config.chunks.tokens, config.chunks.overlap) == ("sentence", 100, 10)
    assert config.features["text"].model == "minilm"


def test_parts_of_the_definition_stay() -> None:
    segments = {"audio": {"time_split_interval": 3.0}, "video": {"fps": 1.0}}
    config = extract(
        {"name": "multimodal", "parameters": {"split_method": "silence"}},
        "audio_fingerprint",
        segments=segments,
        fields={"year": "int"},
    )
    assert config.segments.audio.time_split_interval == 3.0
    assert (config.segments.video.fps, config.segments.video.split_method) == (1.0, "silence")
    assert segments == {"audio": {"time_split_interval": 3.0}, "video": {"fps": 1.0}}
    assert config.fields == {"year": "int"}


def test_steps_that_are_not_offered_may_be_off() -> None:
    off = {"run_video_description": False, "enable_thumbnails": True, "response_shape": None}
    assert extract({"name": "multimodal_extractor", "parameters": off}) == extract("multimodal_extractor")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "one or more"),
        ("image_extractor", "must be a list"),
        ([5], "a name or an object"),
        (["imge_extractor"], "Did you mean 'image_extractor'"),
        (["face_identity_extractor"], "faces is not offered"),
        (["document_graph_extractor"], "image_extractor"),
        (["image_extractor", "image"], "twice"),
        ([{"parameters": {}}], "feature_extractor_name"),
        ([{"name": "image_extractor", "input_mappings": {"image": "x"}}], "'input_mappings'"),
        ([{"name": "image_extractor", "parameters": []}, "text"], None),
        ([{"name": "image_extractor", "parameters": [1]}], "must be an object"),
        ([{"name": "multimodal_extractor", "parameters": {"split_metod": "time"}}], "split_method"),
        ([{"name": "multimodal_extractor", "parameters": {"split_method": "shots"}}], "split_method"),
        ([{"name": "multimodal_extractor", "parameters": {"time_split_interval": -1}}], "time_split_interval"),
        ([{"name": "multimodal_extractor", "parameters": {"run_video_description": True}}], "language models"),
        ([{"name": "text_extractor", "parameters": {"split_method": "time"}}], "no parameter 'split_method'"),
        ([{"name": "text_extractor", "parameters": {"chunk_strategy": "nope"}}], "Unknown chunker"),
    ],
)
def test_others_are_refused_by_name(specs: Any, message: str | None) -> None:
    if message is None:
        assert parse_config({"feature_extractors": specs})
        return
    with pytest.raises(InputError) as refused:
        parse_config({"feature_extractors": specs})
    assert message in str(refused.value)


def test_contradictions_are_refused() -> None:
    with pytest.raises(InputError, match="leave one of them out"):
        extract("text_extractor", features={"dense": {}})
    with pytest.raises(InputError, match=r"segments\.video\.split_method"):
        extract(
            {"name": "multimodal", "parameters": {"split_method": "scene"}},
            segments={"video": {"split_method": "time"}},
        )
    with pytest.raises(InputError, match="language"):
        extract({"name": "text", "parameters": {"language": "de"}}, language="fr")


def test_a_file_has_extractors(tmp_path: Path) -> None:
    file = tmp_path / "films.toml"
    file.write_text('[[feature_extractors]]\nfeature_extractor_name = "image_extractor"\n', encoding="utf-8")
    parts = load_config(file)
    assert list(parts["features"]) == ["image"]
    merged = merge_config(parse_config({}), parts)
    assert (list(merged.features), merged.features["image"].media) == (["image"], ("image", "page"))
    assert merge_config(parse_config({}), {"feature_extractors": ["image_extractor"]}) == merged


def test_a_collection_is_created_with_extractors(tmp_path: Path) -> None:
    with Collection.create("films", feature_extractors=["image_extractor", "text_extractor"], home=tmp_path) as films:
        assert list(films.config.features) == ["image", "text"]
    with Collection.open("films", home=tmp_path) as again:
        assert again.config.features["image"].model == EXTRACTORS["image"].model
    wrong = {"name": "audio_fingerprint_extractor", "parameters": {"model": "minilm"}}
    with pytest.raises(InputError, match="reads sounds"):
        Collection.create("songs", feature_extractors=[wrong], home=tmp_path)
    assert not (tmp_path / "songs").exists()


def test_the_guide_lists_all_extractors() -> None:
    guide = (ROOT / "docs/guides/collections.md").read_text(encoding="utf-8")
    for name, extractor in EXTRACTORS.items():
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{name}_extractor`"))
        assert extractor.model in row
        assert all(f"`{parameter}`" in row for parameter in extractor.parameters)

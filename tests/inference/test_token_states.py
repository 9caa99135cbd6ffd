"""The last hidden states of tokens, against transformers: which tokens, how near, and beside all other outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.errors import InputError
from tests.parity.m3 import write as write_m3
from tests.support.tiny_models import TINY

#: transformers, with which it is compared, takes more than two seconds to import.
pytestmark = pytest.mark.slow

TEXTS = ["The quick brown fox.", "a", "river " * 90, "moon and stars"]


def _reference(folder: Path, texts: list[str], length: int) -> list[Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    words: Any = AutoTokenizer.from_pretrained(str(folder))
    body = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
    states = []
    for text in texts:
        batch = words(text, return_tensors="pt", truncation=True, max_length=length)
        with torch.no_grad():
            states.append(body(**batch).last_hidden_state[0].numpy())
    return states


@pytest.fixture(scope="module", params=["bert", "roberta", "modernbert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY[request.param](tmp_path_factory.mktemp("states") / "model", prompts={"query": "search: "})


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        yield encoder


def test_all_tokens_are_those_of_the_reference(encoder: Encoder, folder: Path) -> None:
    states = encoder.encode_tokens(TEXTS)
    expected = _reference(folder, TEXTS, encoder.max_length)
    assert [len(one) for one in states] == [len(one) for one in expected]
    for one, other in zip(states, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 * float(np.abs(other).max()))
    assert states.tokens is not None and states.tokens.tolist() == [len(one) for one in expected]
    assert states.dropped is not None and states.dropped[2] > 0


def test_a_prompt_and_a_length_change_the_tokens(encoder: Encoder, folder: Path) -> None:
    plain, prompted = encoder.encode_tokens("moon"), encoder.encode_tokens("moon", prompt_name="query")
    assert plain.single and len(prompted[0]) > len(plain[0])
    np.testing.assert_allclose(
        prompted[0], _reference(folder, ["search: moon"], 60)[0], atol=2e-4 * float(np.abs(prompted[0]).max())
    )
    assert len(encoder.encode_tokens("moon and stars", max_length=3)[0]) == 3


def test_other_outputs_stay_the_same(folder: Path) -> None:
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as encoder:
        before = np.asarray(encoder.encode(TEXTS))
        assert encoder.encode_tokens([]).tokens is not None
        assert len(encoder.encode_tokens([])) == 0
        np.testing.assert_allclose(np.asarray(encoder.encode(TEXTS)), before, atol=1e-6)
        assert encoder.encode(TEXTS).fingerprint == encoder.fingerprint


def test_a_failed_compilation_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        before = np.asarray(encoder.encode(TEXTS))
        with monkeypatch.context() as patch:
            patch.setattr(encoder._model._runtime, "compile", Mock(side_effect=MemoryError))
            with pytest.raises(MemoryError):
                encoder.encode_tokens("moon")
        np.testing.assert_allclose(np.asarray(encoder.encode(TEXTS)), before, atol=1e-6)
        (states,) = encoder.encode_tokens("moon")
        np.testing.assert_allclose(states, _reference(folder, ["moon"], 60)[0], atol=2e-4 * float(np.abs(states).max()))


def test_a_model_with_three_outputs(tmp_path: Path) -> None:
    folder = write_m3(tmp_path)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        states = encoder.encode_tokens(TEXTS)
        for one, other in zip(states, _reference(folder, TEXTS, encoder.max_length), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4 * float(np.abs(other).max()))


def test_pieces_have_no_token_states(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="chunk"):
        encoder.encode_tokens(TEXTS, truncate="chunk")

"""NomicBERT's and GTE's configs: what the originals' own code reads from them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfield import families
from nearfield.errors import ModelRefused

NOMIC: dict[str, Any] = {
    "model_type": "nomic_bert",
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "n_embd": 32,
    "n_head": 4,
    "n_inner": 64,
    "n_layer": 2,
    "n_positions": 8192,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "type_vocab_size": 2,
    "vocab_size": 100,
}
NEW: dict[str, Any] = {
    "model_type": "new",
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 8192,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rope_theta": 20000,
    "type_vocab_size": 1,
    "vocab_size": 100,
}


def angles(config: dict[str, Any]) -> np.ndarray:
    """Return the cosines of the first hundred places."""
    return families.resolve(config).host_inputs(np.arange(100, dtype=np.int32)[None])["rope.cos"]


def test_nomics_own_fields_outweigh_those_beside_them() -> None:
    beside = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "layer_norm_eps": 1e-3}
    family: Any = families.resolve({**NOMIC, **beside})
    assert family.eps == 1e-12
    np.testing.assert_array_equal(angles({**NOMIC, **beside}), angles(NOMIC))


@pytest.mark.parametrize("given", [{}, {"rotary_scaling_factor": 2}, {"max_trained_positions": None}])
def test_nomic_is_not_asked_beyond_what_it_was_trained_on(given: dict[str, Any]) -> None:
    assert families.resolve({**NOMIC, **given}).positions == 2048


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (NOMIC, "activation_function", "gelu_new"),
        (NOMIC, "expert_choice_router", True),
        (NOMIC, "moe_normalize_expert_weights", True),
        (NOMIC, "num_experts", 8),
        (NOMIC, "num_shared_experts", 1),
        (NOMIC, "prenorm", True),
        (NOMIC, "rotary_emb_fraction", 0.5),
        (NOMIC, "rotary_emb_interleaved", True),
        (NOMIC, "rotary_emb_scale_base", 512),
        (NOMIC, "rotary_head_dim", True),
        (NOMIC, "use_rms_norm", True),
        (NEW, "layer_norm_type", "rms_norm"),
        (NEW, "logn_attention_scale", True),
        (NEW, "position_embedding_type", "absolute"),
        (NEW, "rope_scaling", {"type": "ntk", "factor": 8.0, "mixed_b": 0.75}),
        (NEW, "rope_scaling", {"type": "dynamic", "factor": 8.0}),
    ],
)
def test_unknown_variants_are_refused(config: dict[str, Any], field: str, value: Any) -> None:
    families.resolve(config)
    with pytest.raises(ModelRefused):
        families.resolve({**config, field: value})

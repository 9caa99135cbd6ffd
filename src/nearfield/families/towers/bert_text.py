"""Text towers that are BERT (Chinese-CLIP), RoBERTa (CLAP), or XLM-RoBERTa with one more norm (AltCLIP).

Yang et al. 2022, arXiv:2211.01335; Wu et al. 2022, arXiv:2211.06687; Chen et al. 2022, arXiv:2211.06679.
"""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families.bert import Bert
from nearfield.ops import Ops, T

#: Weights of the other tower, and of the modules after this one.
_BESIDE = (
    r"^vision_model\.",
    r"^(text|visual)_projection\.",
    r"^logit_(scale|bias)$",
    r"^text_model\.transformation\.",
)


class ChineseClipText(Bert):
    """BERT as a text tower."""

    weight_prefixes = ("text_model.",)
    unused_weights = (*Bert.unused_weights, *_BESIDE)

    def __init__(self, config: JsonObject) -> None:
        super().__init__({**config, "model_type": "bert"})


class ClapText(Bert):
    """RoBERTa as a text tower."""

    weight_prefixes = ("text_model.",)
    unused_weights = (*Bert.unused_weights, r"^audio_model\.", r"^(text|audio)_projection\.", r"^logit_scale_[at]$")

    def __init__(self, config: JsonObject) -> None:
        super().__init__({**config, "model_type": "roberta"})


class AltClipText(Bert):
    """XLM-RoBERTa as a text tower, with a norm before its projection."""

    weight_prefixes = ("text_model.roberta.",)
    unused_weights = (*Bert.unused_weights, *_BESIDE)

    def __init__(self, config: JsonObject) -> None:
        super().__init__({**config, "model_type": "xlm-roberta"})

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = super().encode(ops, weights, inputs)
        return ops.layer_norm(x, weights.top.norm("text_model.pre_LN", self.hidden_size), self.eps)

"""ALBERT and DeBERTa v2 with their heads, against sentence-transformers."""

from __future__ import annotations

from tests.parity import Case, dense, scores, sparse

V2 = {"share_att_key": False, "position_buckets": -1, "position_biased_input": True, "type_vocab_size": 2}
CASES = [
    Case("mean", "deberta-v2", dense.REFERENCE, dense.pooled("deberta-v2"), dense.expect),
    Case(
        "mean, projections apart, no buckets",
        "deberta-v2",
        dense.REFERENCE,
        dense.pooled("deberta-v2", norm_rel_ebd="none", max_relative_positions=20, **V2),
        dense.expect,
    ),
    Case(
        "mean, content to position alone",
        "deberta-v2",
        dense.REFERENCE,
        dense.pooled("deberta-v2", pos_att_type=["c2p"], share_att_key=False),
        dense.expect,
    ),
    Case("classes", "deberta-v2", scores.REFERENCE, scores.classifier("deberta-v2"), scores.expect, "scores"),
    Case("mean", "albert", dense.REFERENCE, dense.pooled("albert"), dense.expect),
    Case("classes", "albert", scores.REFERENCE, scores.classifier("albert", 3), scores.expect, "scores"),
    Case("SPLADE, max", "albert", sparse.REFERENCE, sparse.masked("albert"), sparse.expect, "sparse"),
]

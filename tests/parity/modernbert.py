"""ModernBERT and its heads, against sentence-transformers."""

from __future__ import annotations

from tests.parity import Case, dense, multivector, scores, sparse

CASES = [
    *(
        Case(mode, "modernbert", dense.REFERENCE, dense.pooled("modernbert", pooling=mode), dense.expect)
        for mode in ("mean", "cls")
    ),
    Case("SPLADE, max", "modernbert", sparse.REFERENCE, sparse.masked("modernbert"), sparse.expect, "sparse"),
    Case("classes", "modernbert", scores.REFERENCE, scores.classifier("modernbert"), scores.expect, "scores"),
    Case(
        "classes, mean",
        "modernbert",
        scores.REFERENCE,
        scores.classifier("modernbert", 2, classifier_pooling="mean"),
        scores.expect,
        "scores",
    ),
    *(
        Case(
            f"tokens, {role}",
            "modernbert",
            multivector.REFERENCE,
            multivector.own("modernbert", {**multivector.FIXED, "attend": True}),
            multivector.expect(role),
            "multivector",
            wanted={"role": role},
        )
        for role in ("query", "document")
    ),
]

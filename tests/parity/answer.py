"""Language models as rerankers: the logit of yes less that of no, against sentence-transformers and transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case, decoder, scores
from tests.support import tiny_models

#: Qwen3-Reranker's way of asking, shortened.
HEAD, BODY, TAIL = (
    "the [judge] ",
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
    "\n[answer] is",
)
INSTRUCTION = "find the passage"


def causal(kind: str, *, tied: bool | None = None) -> Callable[[Path], Path]:
    """Return a writer of a causal model with its language-model head, by default tied to the embeddings in Qwen3."""
    tie = kind == "Qwen3" if tied is None else tied

    def write(folder: Path) -> Path:
        import torch
        import transformers

        words = decoder.tokenizer(end=False)
        fields = {**decoder.SIZES, "vocab_size": len(words), "tie_word_embeddings": tie}
        torch.manual_seed(10)
        model: Any = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**fields))
        tiny_models.perturb(model)
        model.save_pretrained(folder / "causal")
        words.save_pretrained(folder / "causal")
        return folder / "causal"

    return write


def scored(kind: str) -> Callable[[Path], Path]:
    """Return a writer of a sentence-transformers folder whose last module reads two words' logits."""

    def write(folder: Path) -> Path:
        from sentence_transformers import CrossEncoder
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.cross_encoder.modules import LogitScore

        transformer = Transformer(str(causal(kind)(folder)), transformer_task="text-generation")
        model = CrossEncoder(modules=[transformer, LogitScore(true_token_id=300, false_token_id=310)], device="cpu")
        model.save(str(folder / "out"))
        return folder / "out"

    return write


def expect_asked(folder: Path, pairs: Sequence[tuple[str, str]], padding: str = "right") -> list[Array]:
    """Ask by the template, one pair at a time: the probability of the one word among the two."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    words: Any = AutoTokenizer.from_pretrained(folder)
    head, tail = (words(text, add_special_tokens=False)["input_ids"] for text in (HEAD, TAIL))
    yes, no = (words.convert_tokens_to_ids(word) for word in ("y", "n"))
    rows = []
    for query, document in pairs:
        body = BODY.format(instruction=INSTRUCTION, query=query, document=document)
        room = 60 - len(head) - len(tail)
        ids = [*head, *words(body, add_special_tokens=False)["input_ids"][:room], *tail]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        rows.append(np.asarray(torch.softmax(logits[[no, yes]], -1)[1:]))
    return rows


def asked(folder: Path) -> dict[str, Any]:
    """Return what a catalogue says of such a model."""
    from nearfield.recipe import RerankPrompt, Template

    return {"answer": RerankPrompt("y", "n", Template(HEAD, BODY, TAIL, INSTRUCTION), "sigmoid")}


CASES = [
    *(
        Case("answer, yes less no", kind.lower(), scores.REFERENCE, scored(kind), scores.expect, "scores", ("right",))
        for kind in ("Qwen3", "Llama")
    ),
    Case(
        "answer, by a template",
        "qwen3",
        "transformers",
        causal("Qwen3"),
        expect_asked,
        "scores",
        options=asked(Path()),
    ),
]

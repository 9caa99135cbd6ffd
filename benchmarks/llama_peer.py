"""llama.cpp by llama-cpp-python, in a separate process: tokens, vectors, and smaller files, on requests in JSON lines.

Run by `benchmarks.gguf_peers` in the environment that has the package. It imports nothing of Nearfield.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
from llama_cpp import Llama

#: Numbers of the kinds of files (``llama_ftype``) by the type of their matrices.
FILE_TYPES = {"F32": 0, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18}
#: Tokens that a text may have.
CONTEXT = 512


def quantize(file: str, type_name: str, out: str) -> None:
    """Write a file with its matrices in another type; those whose rows have no whole blocks are in one with smaller."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.allow_requantize = FILE_TYPES[type_name], True, True
    if llama_cpp.llama_model_quantize(file.encode(), out.encode(), ctypes.byref(params)):
        raise ValueError(f"llama.cpp could not write {out}")


def tokenize(file: str, texts: list[str]) -> list[list[int]]:
    """Return the ids of texts, with what llama.cpp puts around them; special tokens in a text are read as such."""
    model = Llama(file, vocab_only=True, verbose=False)
    try:
        return [model.tokenize(text.encode(), add_bos=True, special=True) for text in texts]
    finally:
        model.close()


def embed(file: str, rows: list[list[int]], size: int, pooling: str) -> list[list[float]]:
    """Return ``size`` values for each input of token ids: a vector, or scores."""
    kinds = {"rank": llama_cpp.LLAMA_POOLING_TYPE_RANK, "last": llama_cpp.LLAMA_POOLING_TYPE_LAST}
    kind = kinds.get(pooling, llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED)
    sizes = dict.fromkeys(("n_ctx", "n_batch", "n_ubatch"), CONTEXT)
    model = Llama(file, embedding=True, pooling_type=kind, n_threads=1, n_threads_batch=1, verbose=False, **sizes)
    try:
        return [_values(model, ids, size) for ids in rows]
    finally:
        model.close()


def _values(model: Any, ids: list[int], size: int) -> list[float]:
    model._ctx.kv_cache_clear()
    model._batch.reset()
    model._batch.add_sequence(ids, 0, True)
    model._ctx.decode(model._batch)
    values: list[float] = llama_cpp.llama_get_embeddings_seq(model._ctx.ctx, 0)[:size]
    return values


ANSWERS: dict[str, Callable[..., Any]] = {"quantize": quantize, "tokenize": tokenize, "embed": embed}


def main() -> None:
    """Answer each line: the result, or the error."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            reply = {"result": ANSWERS[name](*arguments)}
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the other process says it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()

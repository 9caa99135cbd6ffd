"""`load`: load a model as the class that fits its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from nearfield.attach import open_classifier, open_encoder, open_reranker
from nearfield.encoder import OWN_KEYWORDS, Encoder
from nearfield.errors import InputError
from nearfield.inference.calls.keywords import check_keywords
from nearfield.inference.encode_options import Unpack
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.uncompiled_model import ReadModelKeywords, model_name, read_model
from nearfield.recipe import ClassScores, Recipe
from nearfield.reranker import Classifier, Reranker
from nearfield.vectors.vector_map import VectorMap


def load(
    model: str,
    *,
    truncate_dim: int | None = None,
    force_truncate_dim: bool = False,
    query_map: str | Path | VectorMap | None = None,
    **options: Unpack[LoadKeywords],
) -> Encoder | Reranker | Classifier:
    """Return an Encoder if a model gives vectors, a Reranker if it gives one score, and a Classifier for more scores.

    With the variable ``NEARFIELD_SERVER``, the model is attached to that server unless ``engine`` is set: its results
    are computed there, and are the same.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub (with a type for repositories of GGUF files:
            ``org/name:Q8_0``), path of a folder or GGUF file, or ``ollama:NAME``.
        truncate_dim: dimensions of vectors for calls that do not say; without effect for scores.
        force_truncate_dim: truncate even if the model was not trained for it.
        query_map: the folder of a query map (see ``Encoder``); refused for a model without vectors.
        source: ``folder``, ``cache``, ``hub``, ``index`` or ``ollama``: the only place to search.
        revision: commit, tag or branch on the Hub; by default the one that the catalogue pins.
        precision: ``auto`` (bf16 if the hardware multiplies it natively) or ``float32``; for torch also ``bfloat16``
            and ``float16``; for OpenVINO also ``int8`` (weights), ``int8-dynamic`` (inputs of matrix products too) and
            ``int4`` (matrices in four bits), whose vectors are of another space.
        backend: ``openvino``, ``torch`` or ``reference`` (plain numpy, slow).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, for torch.
        devices: devices that each get a replica of the model, in place of ``device``: sets of CPUs such as
            ``cpu:0-15,cpu:16-31`` (also ``cpu:0-7+16-23``), or GPUs such as ``cuda:0,cuda:1`` for torch.
        threads: cores to use; by default all that this process may use.
        streams: batches that run at the same time.
        reproducible: compute each input by itself. Its result is then the same, bit for bit, whatever other inputs
            there are and however busy the machine is; throughput falls (``benchmarks/README.md``).
        max_length: tokens to read of each input, at most what the model allows.
        kind: ``dense``, ``sparse``, ``multivector`` or ``scores``, if the model's files do not say which it is.
        engine: the engine to run on; by default all models of the process share one.
        compile_cache: store compiled graphs on disk for the next start.
        progress: show progress bars of downloads.
        file: an ONNX or OpenVINO file of the model to run in place of its weights, such as ``onnx/model_O3.onnx``;
            pooling and later modules still come from the folder.
        adapters: PEFT LoRA adapters to load with the model: names to folders or ids on the Hub.
        accept_license: load a model whose licence does not allow commercial use.
        modalities: the towers to load now, of a model that reads pictures too: ``("image",)`` loads no tower for
            texts. By default that of texts, and others when an input first needs them.
        trust_remote_code: has no effect: code of models is never run, and a warning says so once.
        answer: the prompt and answer tokens of a language model that reranks, if neither folder nor catalogue has them
            (see ``Reranker``).

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: its files cannot be loaded exactly.
        UnknownKeyword: there is no such keyword.
    """
    check_keywords("nearfield.load", options, LoadKeywords.__optional_keys__, OWN_KEYWORDS)
    selected = {name: value for name, value in options.items() if name in ReadModelKeywords.__annotations__}
    uncompiled = read_model(model_name(model), **cast(ReadModelKeywords, selected))
    model_class = _class_for(uncompiled.recipe)
    if model_class is Encoder:
        own: dict[str, Any] = {"truncate_dim": truncate_dim, "force_truncate_dim": force_truncate_dim}
        return open_encoder(uncompiled, query_map=query_map, **own, **options)
    if query_map is not None:
        raise InputError(f"{uncompiled.recipe.name} gives scores: it has no queries to map.", param="query_map")
    return (open_reranker if model_class is Reranker else open_classifier)(uncompiled, **options)


def _class_for(recipe: Recipe) -> type[Encoder] | type[Reranker] | type[Classifier]:
    if recipe.outputs[0] != "scores":
        return Encoder
    head = recipe.head("scores")
    return Classifier if isinstance(head, ClassScores) and len(head.labels) > 1 else Reranker

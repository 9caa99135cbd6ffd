"""Folders that both fastembed and Nearfield read: tiny checkpoints with their graph as an ONNX file."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import tiny_models

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def add_graph(folder: Path, model: Any, result: Callable[[Any], Any], *names: str, inputs: int = 2) -> Path:
    """Export what ``result`` returns of a transformers model's output, and write what fastembed reads beside.

    Args:
        folder: the folder of the model.
        model: the model.
        result: a function of its output.
        names: the files to write.
        inputs: 2 for ids and mask, 3 for types of tokens too.
    """
    import torch

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return result(self.model(**dict(zip(INPUTS, tensors, strict=False))))

    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS[:inputs], "output")}
    first = folder / names[0]
    first.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            tuple(torch.ones(2, 7, dtype=torch.long) for _ in range(inputs)),
            str(first),
            input_names=list(INPUTS[:inputs]),
            output_names=["output"],
            dynamic_axes=axes,
            dynamo=False,
            opset_version=17,
        )
    for name in names[1:]:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(first, folder / name)
    _write_tokenizer_files(folder)
    return folder


def _write_tokenizer_files(folder: Path) -> None:
    """Write special_tokens_map.json, which transformers does not write any more, and a length."""
    tiny_models.edit(folder / "tokenizer_config.json", model_max_length=tiny_models.POSITIONS)
    config = tiny_models.read(folder / "tokenizer_config.json")
    names = ("cls_token", "sep_token", "unk_token", "pad_token", "mask_token")
    tiny_models.dump(folder / "special_tokens_map.json", {name: config[name] for name in names if name in config})


def dense_folder(place: Path, *names: str, **options: Any) -> Path:
    """Write a BERT whose graph gives the states of its tokens."""
    import transformers

    folder = tiny_models.tiny_bert(place, **options)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    return add_graph(folder, model, lambda output: output.last_hidden_state, *names)


def sparse_folder(place: Path) -> Path:
    """Write a SPLADE model whose graph gives the logits of its vocabulary."""
    import transformers

    from tests.parity.sparse import masked

    folder = masked("bert")(place)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager")
    return add_graph(folder, model, lambda output: output.logits, "model.onnx")


def inference_free_folder(place: Path) -> Path:
    """Write an inference-free SPLADE model: sentence-transformers' layout, and idf.json for fastembed."""
    import transformers
    from safetensors.numpy import load_file

    from tests.parity.sparse import inference_free

    folder = inference_free(place)
    documents = next(folder.glob("document_0*"))
    model = transformers.AutoModelForMaskedLM.from_pretrained(documents, attn_implementation="eager")
    _write_tokenizer_files(documents)
    for file in documents.glob("*.json"):
        if file.name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(file, folder / file.name)
    add_graph(folder, model, lambda output: output.logits, "model.onnx")
    words = transformers.AutoTokenizer.from_pretrained(documents)
    weights = load_file(next(folder.glob("query_0*")) / "model.safetensors")["weight"]
    tokens = words.convert_ids_to_tokens(range(len(words)))
    idf = {token: float(weight) for token, weight in zip(tokens, weights, strict=True) if weight > 0}
    tiny_models.dump(folder / "idf.json", idf)
    return folder


def colbert_folder(place: Path, dim: int = 16, file: str = "model.onnx") -> Path:
    """Write a ColBERT in Stanford's layout whose graph gives projected states of unit length."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    from tests.parity.multivector import stanford

    folder = stanford(place)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(3)
    projection = torch.randn(dim, 32)
    save_file({**weights, "linear.weight": projection}, folder / "model.safetensors", metadata={"format": "pt"})
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager")

    def project(output: Any) -> Any:
        return torch.nn.functional.normalize(output.last_hidden_state @ projection.T, dim=-1)

    return add_graph(folder, model, project, file)


def cross_encoder_folder(place: Path) -> Path:
    """Write a cross-encoder whose graph gives logits."""
    import transformers

    from tests.parity.scores import classifier

    folder = classifier("bert")(place)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    return add_graph(folder, model, lambda output: output.logits, "onnx/model.onnx", inputs=3)

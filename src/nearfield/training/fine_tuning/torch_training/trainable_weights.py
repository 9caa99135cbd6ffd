"""The weights that are trained, as one safetensors file: all of them, or an adapter's; and their average with the base.

The average is that of model soups and LM-Cocktail (arXiv 2203.05482, 2311.13534): base plus a share of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nearfield.training.fine_tuning.torch_training.models import TorchModel, train_library

WEIGHTS_FILE = "weights.safetensors"
#: In an adapter the difference to the base is a product of two matrices, B times A. A share of it is a share of B.
_FIRST_FACTOR = "lora_A"


@contextmanager
def explain_weight_files(folder: Path) -> Iterator[None]:
    """Raise safetensors' own errors of reading and writing during the block as OSError, with the folder."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"A file of weights in {folder} cannot be written or read: {error}") from error


def trained_tensors(model: TorchModel) -> dict[str, Any]:
    """Return the tensors that are trained, by name; they are the model's, not copies."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_weights(model: TorchModel, path: Path) -> None:
    """Write the trained tensors in one step."""
    temporary = path.with_name(f".{path.name}.partial")
    tensors = {name: tensor.contiguous().cpu().clone() for name, tensor in trained_tensors(model).items()}
    train_library("safetensors.torch").save_file(tensors, temporary)
    temporary.replace(path)


def load_weights(model: TorchModel, path: Path) -> None:
    """Put the tensors of a file into the model."""
    _assign(model, train_library("safetensors.torch").load_file(path))


def apply_share(model: TorchModel, base: Mapping[str, Any], tuned: Mapping[str, Any], share: float) -> None:
    """Put base plus ``share`` of the difference to the tuned tensors into the model; 1 gives exactly the tuned ones."""
    _assign(model, {name: _average(name, base[name], tensor, share) for name, tensor in tuned.items()})


def _average(name: str, base: Any, tuned: Any, share: float) -> Any:
    return tuned if share == 1 or _FIRST_FACTOR in name else base + share * (tuned - base)


def _assign(model: TorchModel, tensors: Mapping[str, Any]) -> None:
    torch = train_library("torch")
    places = trained_tensors(model)
    with torch.no_grad():
        for name, tensor in tensors.items():
            places[name].copy_(tensor)

"""The model that mines hard negatives, in the number format that is fastest for it."""

from __future__ import annotations

from nearfield.encoder import Encoder
from nearfield.hardware import has_bf16, has_int8
from nearfield.inference.uncompiled_model import UncompiledModel, read_model


def open_miner(model: str, *, progress: bool = False, accept_license: bool = False) -> Encoder:
    """Open a model of dense vectors for ``mine_negatives``, which needs the order of documents and no exact scores.

    Raises:
        NearfieldError: the model cannot be loaded; see ``Encoder``.
    """
    source = read_model(model, progress=progress, accept_license=accept_license)
    return Encoder(source, precision=_precision(source))


def _precision(model: UncompiledModel) -> str:
    """Return int8-dynamic where the CPU multiplies int8 natively and bf16 not, and the weights are floats."""
    recipe = model.recipe
    suits = recipe.has_matrices and not recipe.quantized and "int8-dynamic" not in recipe.unsupported_precisions
    return "int8-dynamic" if suits and has_int8() and not has_bf16() else "auto"

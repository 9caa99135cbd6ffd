"""PyTorch tensors at the edges: torch is imported only where a caller passes a tensor, or requests one."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError


def is_tensor(value: object) -> bool:
    """Return whether a value is a torch tensor; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def torch_is_installed() -> bool:
    """Return whether torch can be imported; it is not imported for it."""
    return "torch" in sys.modules or find_spec("torch") is not None


def import_torch() -> Any:
    """Import torch and return it.

    Raises:
        InputError: torch is not installed.
    """
    if not torch_is_installed():
        raise InputError("Tensors need torch, which is not installed: pip install torch, or request NumPy arrays.")
    import torch

    return torch


def tensor_to_array(tensor: Any) -> Array:
    """Return a tensor as a NumPy array: dense, detached, on the CPU; bfloat16, which NumPy lacks, as float32."""
    plain = tensor.detach().cpu()
    plain = plain.to_dense() if plain.is_sparse else plain
    return np.asarray(plain.float() if str(plain.dtype) == "torch.bfloat16" else plain)


def array_to_tensor(array: Array, device: str | None = None) -> Any:
    """Return an array as a torch tensor of the same dtype; on the CPU it shares the memory.

    Raises:
        InputError: torch is not installed.
    """
    torch = import_torch()
    # A view of the base class: torch warns of arrays that are not writable.
    plain = np.asarray(array)
    tensor = torch.from_numpy(plain if plain.flags.writeable else plain.copy())
    return tensor if device is None else tensor.to(device)

"""The transformers backend: architectures without a family of ours run as the library's own model; heads stay ours.

It is taken by itself for those, where torch and transformers are installed. Code that comes with a model never runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

from nearfield.backends import Array, Inputs, Options
from nearfield.backends.tape import Tape
from nearfield.backends.torch import TorchBackend, TorchOps, TorchProgram, to_tensor
from nearfield.errors import ModelRefused, WeightsError
from nearfield.ops import Graph

#: Weights that the hidden states do not depend on.
_IDLE = re.compile(r"(^|\.)(pooler|position_ids)(\.|$)")


class TransformersLane:
    """Runs the library's model on padded rows, then the heads."""

    def __init__(self, program: TransformersProgram) -> None:
        self._program = program

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        own = self._program
        with torch.inference_mode():
            values = {name: torch.from_numpy(np.ascontiguousarray(inputs[name])).to(own.device) for name in own.names}
            mask = (values["segments"] > 0).long()
            hidden = own.model(input_ids=values["ids"].long(), attention_mask=mask).last_hidden_state
            results = own.tape.run(TorchOps(own.device, own.dtype), {**values, "hidden": hidden})
            return {name: results[name].float().cpu().numpy() for name in outputs}


class TransformersProgram(TorchProgram):
    """A model of the library's, and the tape of the heads."""

    def __init__(self, model: Any, names: tuple[str, ...], tape: Tape, backend: TorchBackend) -> None:
        super().__init__(tape, backend.device, backend.dtype)
        self.model, self.names, self.tape = model, names, tape
        self.device, self.dtype = backend.device, backend.dtype

    def lane(self) -> Any:
        return TransformersLane(self)


class TransformersBackend(TorchBackend):
    """``AutoModel``, checked as strictly as our own loading is."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.packed = False

    def compile(self, graph: Graph[Any]) -> TransformersProgram:
        if graph.body is None or not graph.body.is_dir():
            raise ModelRefused("backend 'transformers' is for architectures without a family here; take 'torch'.")
        model = load(graph.body).to(self.device, self.dtype)
        with torch.inference_mode():
            whole = replace(graph, inputs=(*graph.inputs, "hidden"))
            tape = Tape(whole, lambda array: to_tensor(array, self.device, self.dtype))
        return TransformersProgram(model, graph.inputs, tape, self)


def load(folder: Path) -> Any:
    """Load a folder by the library.

    Raises:
        ModelRefused: it is no encoder, or the library does not know it.
        WeightsError: weights are missing or have other shapes: the library would fill in random ones.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelRefused(f"{folder} holds an encoder with a decoder, whose states are not those of its input.")
        model, told = AutoModel.from_pretrained(folder, trust_remote_code=False, output_loading_info=True)
    except (ValueError, KeyError, OSError) as error:
        raise ModelRefused(f"transformers cannot load {folder}: {str(error).splitlines()[0]}") from error
    missing = sorted(name for name in told["missing_keys"] if not _IDLE.search(name))
    wrong = sorted(str(item) for item in told["mismatched_keys"])
    if missing or wrong:
        shown = ", ".join([*missing, *wrong][:4])
        raise WeightsError(f"{folder} lacks weights that its architecture needs, or has them in other shapes: {shown}")
    return model.eval()

"""The transformers backend: architectures without a family of ours run as the library's own model; heads stay ours.

It is chosen automatically for those, where torch and transformers are installed. Code that comes with a model never
runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from nearfield.arrays import Array
from nearfield.backends import BackendOptions, Executor, Inputs
from nearfield.backends.torch import TorchBackend, TorchProgram, TorchRecordedGraph
from nearfield.backends.torch_ops import TorchOps, to_tensor
from nearfield.errors import InputError, ModelRefused, WeightsError
from nearfield.ops import Graph

#: Weights that the hidden states do not depend on.
_IDLE = re.compile(r"(^|\.)(pooler|position_ids)(\.|$)")
#: What loading or running a model that the library does not fully know may raise.
_FAULTS = (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, ImportError, RuntimeError)
#: How far the states of an input may move by what it is batched with: rounding alone, relative to the largest.
_ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class TransformersModel:
    """The library's model as a function of ids and a mask, one input a row."""

    def __init__(self, model: torch.nn.Module, typed: bool, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model.to(device)
        self.device, self.dtype = device, dtype
        self.pad = int(getattr(model.config, "pad_token_id", None) or 0)
        self.max_length = _max_length(model)
        known = inspect.signature(model.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in known else {}
        self.typed = typed and "token_type_ids" in known
        #: Whether padding changes a model's states, as in those that convolve or mix by Fourier transforms.
        self.leaks = False
        self._probe()

    def __call__(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Return the last hidden states [B, L, H]: zeros where there is padding."""
        lengths = (segments > 0).sum(1)
        if int(lengths.max()) > self.max_length:
            # An index beyond a table would end every later computation on a GPU.
            raise InputError(f"The model takes at most {self.max_length} tokens, not {int(lengths.max())}.")
        groups = [torch.nonzero(lengths == size)[:, 0] for size in lengths.unique()] if self.leaks else [slice(None)]
        hidden: Tensor | None = None
        for rows in groups:
            states = self._run(ids[rows], segments[rows])
            if hidden is None:
                hidden = states.new_zeros(*ids.shape, states.shape[-1])
            hidden[rows, : states.shape[1]] = states
        return hidden

    def _run(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Run rows no wider than their longest input: a model without masked positions may have no more of them."""
        mask = segments > 0
        width = int(mask.sum(1).max())
        mask = mask[:, :width]
        ids = ids[:, :width].long().masked_fill(~mask, self.pad)
        types = {"token_type_ids": torch.zeros_like(ids)} if self.typed else {}
        output = self.model(input_ids=ids, attention_mask=mask.long(), return_dict=True, **types, **self.options)
        return output.last_hidden_state

    def _probe(self) -> None:
        """Run a row alone and beside a longer one, to see what the model gives and whether padding leaks into it.

        Raises:
            ModelRefused: it fails, or does not give a state for each token.
        """
        size, short = int(min(self.max_length, 24)), slice(0, 3)
        known = [number for number in range(100) if number != self.pad]
        ids = torch.tensor(known, device=self.device)[: size * 2].view(2, size)
        segments = torch.ones_like(ids)
        segments[0, short.stop :] = 0
        try:
            both, alone = self._run(ids, segments), self._run(ids[:1, short], segments[:1, short])
        except _FAULTS as error:
            name = type(self.model).__name__
            raise ModelRefused(f"transformers' {name} cannot run as an encoder: {_first_line(error)}") from error
        if both.shape[:2] != ids.shape:
            raise ModelRefused(f"{type(self.model).__name__} does not give one state for each token.")
        apart = (both[:1, short] - alone).abs().max() / alone.abs().max()
        self.leaks = not bool(apart <= _ROUNDING[self.dtype])


class TransformersLane:
    """Runs the library's model on padded rows, then the heads."""

    def __init__(self, body: TransformersModel, names: tuple[str, ...], heads: TorchRecordedGraph) -> None:
        self._body, self._names, self._heads = body, names, heads

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        body = self._body
        with torch.inference_mode():
            values = {name: to_tensor(inputs[name], body.device, torch.float32) for name in self._names}
            values["hidden"] = body(values["ids"], values["segments"])
            results = self._heads.run(TorchOps(body.device, body.dtype), values)
            return {name: results[name].float().cpu().numpy() for name in outputs}


class TransformersProgram(TorchProgram):
    """A model of the library, and the recorded graph of the heads."""

    def __init__(self, body: TransformersModel, names: tuple[str, ...], heads: TorchRecordedGraph) -> None:
        super().__init__(heads, body.device, body.dtype)
        self._body, self._names, self._heads = body, names, heads

    def create_executor(self) -> Executor:
        return TransformersLane(self._body, self._names, self._heads)


class TransformersBackend(TorchBackend):
    """``AutoModel``, checked as strictly as our own loading is."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self.packed = False

    def compile(self, graph: Graph) -> TransformersProgram:
        folder = graph.external_encoder
        if folder is None or not folder.is_dir():
            raise ModelRefused("backend 'transformers' is for architectures without a family here; take 'torch'.")
        with torch.inference_mode():
            body = TransformersModel(load(folder, self.dtype), is_typed(folder), self.device, self.dtype)
            whole = replace(graph, inputs=(*graph.inputs, "hidden"))
            return TransformersProgram(body, graph.inputs, TorchRecordedGraph(whole, self.device, self.dtype))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Load a folder with the library, which leaves in float32 what cannot be rounded, such as rotary frequencies.

    Raises:
        ModelRefused: it is no encoder, or the library does not know it.
        WeightsError: weights are missing or have other shapes: the library would fill in random ones.
    """
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelRefused(f"{folder} holds an encoder with a decoder, whose states are not those of its input.")
        model, loading = AutoModel.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
            # They are reported, and refused below by name.
            ignore_mismatched_sizes=True,
        )
    except _FAULTS as error:
        raise ModelRefused(f"transformers cannot load {folder}: {_first_line(error)}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    missing = sorted(name for name in loading["missing_keys"] if not _IDLE.search(name))
    wrong = sorted(str(item) for item in loading["mismatched_keys"])
    if missing or wrong:
        shown = ", ".join([*missing, *wrong][:4])
        raise WeightsError(f"{folder} lacks weights that its architecture needs, or has them in other shapes: {shown}")
    return model.eval()


def is_typed(folder: Path) -> bool:
    """Whether the library's tokenizer gives its model a type for each token, here always 0: some add a row for that.

    Raises:
        ModelRefused: it cannot be loaded, or gives other types, which are not passed on here.
    """
    try:
        encoding = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)("a")
    except _FAULTS as error:
        raise ModelRefused(f"transformers cannot load the tokenizer of {folder}: {_first_line(error)}") from error
    if any(encoding.get("token_type_ids", ())):
        raise ModelRefused(
            f"{folder} gives the tokens of one text different types, {encoding['token_type_ids']}: unsupported."
        )
    return "token_type_ids" in encoding


def _max_length(model: torch.nn.Module) -> float:
    """Return the size of the model's table of positions, less the rows up to the padding id where it has one."""
    tables = [table for name, table in model.named_modules() if name.endswith("position_embeddings")]
    rows = [
        len(table.weight) - (0 if getattr(table, "padding_idx", None) is None else table.padding_idx + 1)
        for table in tables
        if getattr(table, "weight", None) is not None
    ]
    return min(rows, default=float("inf"))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

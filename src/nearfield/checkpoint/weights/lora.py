"""LoRA adapters from PEFT folders, stacked so that one pass serves them all (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.lazy_tensor import LazyTensor
from nearfield.checkpoint.weights.weights import Lora, Weights
from nearfield.errors import ModelRefused, WeightsError

Factors = Callable[[str], Lora | None]

CONFIG, FILES = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
#: Settings that change what is computed, each with the values that ask for nothing more than plain LoRA.
PLAIN: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (None, False),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, {}, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "megatron_config": (None,),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
}
#: These methods first change the base weights. We do not, so such an adapter would fit no base.
MUTATING = ("pissa", "olora", "corda", "loftq", "lora_ga")
#: A stored key: PEFT's own prefix, the layer's name, A or B, for linear layers or embeddings.
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<layer>.+?)\.lora_(?P<table>embedding_)?(?P<side>[AB])(?:\.[\w-]+)?(?:\.weight)?$"
)


@dataclass(frozen=True)
class LoraFactors:
    """The names of a layer's two factors in an adapter's file, and what the second is multiplied by."""

    down: str
    up: str
    scale: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapter: for each layer the names of its factors and their scaling; the factors stay in their file."""

    name: str
    folder: Path
    digest: str
    layers: Mapping[str, LoraFactors]
    scaling: str
    base: str | None = None
    #: Names of tensors in full, which replace the base's (``modules_to_save``): of an adapter that is merged.
    full: tuple[str, ...] = ()

    @cached_property
    def _weights(self) -> Weights:
        weights = Weights.open(_file(self.folder))
        if _digest(weights, self.scaling) != self.digest:
            raise WeightsError(f"{self.folder} is another adapter than when it was loaded: load it again by its name.")
        return weights

    def factors(self, layer: str) -> tuple[Array, Array]:
        """Return a layer's ``down`` [rank, inputs] and ``up`` [outputs, rank], scaling included, float32."""
        pair = self.layers[layer]
        down, up = (self._weights.tensor(name, self._weights.shape(name)) for name in (pair.down, pair.up))
        return down, up * np.float32(pair.scale)

    @property
    def origin(self) -> str:
        """Where an adapter that does not fit comes from, for messages."""
        return f"it was trained for another one{f', {self.base}' if self.base else ''}"

    def require_shape(self, layer: str, shape: tuple[int, int]) -> None:
        """Raise WeightsError unless a layer's product has this shape (outputs, inputs)."""
        pair = self.layers[layer]
        product = (self._weights.shape(pair.up)[0], self._weights.shape(pair.down)[1])
        if product != shape:
            raise WeightsError(
                f"The adapter {self.name!r} changes {layer} of shape {list(product)}, and that of this model has "
                f"{list(shape)}: {self.origin}."
            )

    def delta(self, layer: str) -> Array:
        """Return what is added to a weight, float32: [outputs, inputs], or [rows, size] of an embedding table."""
        down, up = self.factors(layer)
        added = up @ down
        return np.ascontiguousarray(added.T) if ".lora_embedding_" in self.layers[layer].down else added

    def stored(self, name: str) -> LazyTensor:
        """Return a tensor of the file, values unread."""
        return self._weights.stored(name)

    def release(self) -> None:
        """Close the file; it is opened again when factors are read."""
        self.__dict__.pop("_weights", None)


@dataclass(eq=False)
class Adapters:
    """The adapters of one model by name, each with a number that it keeps for as long as it is loaded.

    ``own`` gives the factors of adapters that lie in the model's own weights (numbers 1 to ``named``), if any do.
    """

    weight_prefixes: Sequence[str] = ("",)
    own: Factors | None = None
    named: tuple[str, ...] = ()
    loaded: Mapping[int, Adapter] = field(default_factory=dict)
    _taken: set[tuple[int, str]] = field(default_factory=set)

    @property
    def numbers(self) -> dict[str, int]:
        """Each adapter's number, by name."""
        own = {name: number for number, name in enumerate(self.named, 1)}
        return {**own, **{adapter.name: number for number, adapter in self.loaded.items()}}

    @property
    def count(self) -> int:
        """The largest number."""
        return max(self.numbers.values(), default=0)

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def added(self, adapter: Adapter, number: int) -> Adapters:
        """Return these and one more; one of the same name is replaced."""
        others = {key: loaded for key, loaded in self.loaded.items() if loaded.name != adapter.name}
        return Adapters(self.weight_prefixes, self.own, self.named, {**others, number: adapter})

    def without(self, name: str) -> Adapters:
        """Return these without one."""
        others = {number: adapter for number, adapter in self.loaded.items() if adapter.name != name}
        return Adapters(self.weight_prefixes, self.own, self.named, others)

    def factors(self, layer: str, shape: tuple[int, int]) -> Lora | None:
        """Stack what all adapters add to a layer, by its full name among the weights; None where none adds anything.

        Args:
            layer: its name.
            shape: of its weight: outputs and inputs.

        Raises:
            WeightsError: an adapter is of another shape.
        """
        own = self.own(layer) if self.own else None
        parts = [(own.down, own.up, own.owners)] if own else []
        bare = self._bare(layer)
        for number, adapter in sorted(self.loaded.items()):
            for name in adapter.layers:
                if self._bare(name) == bare:
                    self._taken.add((number, name))
                    adapter.require_shape(name, shape)
                    down, up = adapter.factors(name)
                    parts.append((down, up, np.full(len(down), number, np.int64)))
        if not parts:
            return None
        downs, ups, owners = zip(*parts, strict=True)
        return Lora(np.concatenate(downs), np.concatenate(ups, 1), np.concatenate(owners), self.count)

    def check(self, unused_weights: Sequence[str] = ()) -> None:
        """Refuse adapters of which a part fits no layer: what they were trained for would be left out.

        Layers that match one of ``unused_weights`` are none of the outputs' business, such as a pooler that nothing
        reads.

        Raises:
            WeightsError: names the adapter and the layers.
        """
        for number, adapter in self.loaded.items():
            idle = [
                name
                for name in adapter.layers
                if any(re.search(pattern, f"{name}.weight") for pattern in unused_weights)
            ]
            left = [name for name in adapter.layers if (number, name) not in self._taken and name not in idle]
            if left:
                raise WeightsError(
                    f"The adapter {adapter.name!r} changes layers that this model does not have "
                    f"({', '.join(left[:3])}{', …' if len(left) > 3 else ''}): {adapter.origin}."
                )

    def release(self) -> None:
        """Close the adapters' files, once a graph holds their factors."""
        for adapter in self.loaded.values():
            adapter.release()

    def _bare(self, layer: str) -> str:
        """A layer's name without the prefix that some exports put before the encoder."""
        prefix = next((prefix for prefix in self.weight_prefixes if prefix and layer.startswith(prefix)), "")
        return layer[len(prefix) :]


def read_adapter(folder: Path, name: str, *, merging: bool = False) -> Adapter:
    """Read a PEFT folder.

    ``merging`` allows tensors in full: an adapter that is merged can have them, and one that is served beside others
    cannot.

    Raises:
        ModelRefused: it is no LoRA adapter, or one with parts that cannot be honoured exactly.
        WeightsError: its weights are missing or do not fit together.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelRefused(f"{folder} has no {CONFIG}, and so is no PEFT adapter.")
    config = json_file.read_object(path)
    _check(path, {**config, "modules_to_save": None} if merging else config)
    weights = Weights.open(_file(folder))
    full = tuple(sorted(key for key in weights.names() if not _KEY.match(key)))
    if full and not merging:
        raise ModelRefused(f"{folder} holds {full[0]}, which is no factor of a LoRA adapter and cannot be honoured.")
    layers = _layers(folder, config, weights)
    scaling = repr([config.get(key) for key in ("lora_alpha", "alpha_pattern", "use_rslora")])
    return Adapter(name, folder, _digest(weights, scaling), layers, scaling, _base(config), full)


def base_of(folder: Path) -> str | None:
    """Return the id, or the path, of the base model that an adapter's folder names."""
    return _base(json_file.read_object(folder / CONFIG))


def tensor_names(folder: Path) -> frozenset[str]:
    """Return the names in an adapter's file."""
    return Weights.open(_file(folder)).names()


def _base(config: JsonObject) -> str | None:
    base = config.get("base_model_name_or_path")
    return str(base) if base else None


def _digest(weights: Weights, scaling: str) -> str:
    """The same factors at another scaling are another adapter."""
    return hashlib.sha256(f"{weights.digest} {scaling}".encode()).hexdigest()


def _file(folder: Path) -> Path:
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{folder} has no weights (looked for {', '.join(FILES)}).")
    return file


def _check(path: Path, config: JsonObject) -> None:
    for setting, plain in PLAIN.items():
        if config.get(setting, plain[0]) not in plain:
            raise ModelRefused(
                f"{path}: {setting} is {config[setting]!r}, which cannot be honoured here (plain LoRA only)."
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MUTATING):
        raise ModelRefused(
            f"{path}: init_lora_weights is {start!r}, which changes the base model's own weights. Convert the adapter "
            "to plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)."
        )


def _layers(folder: Path, config: JsonObject, weights: Weights) -> dict[str, LoraFactors]:
    """Pair up the factors: linear ones are stored as they are used, those of embeddings are too."""
    sides: dict[str, dict[str, str]] = {}
    for key in sorted(weights.names()):
        if match := _KEY.match(key):
            sides.setdefault(match["layer"], {})[match["side"]] = key
    layers = {}
    for layer, keys in sides.items():
        if set(keys) != {"A", "B"}:
            raise WeightsError(f"{folder} holds one factor of {layer} and lacks the other.")
        down, up = (weights.shape(keys[side]) for side in "AB")
        if len(down) != 2 or len(up) != 2 or up[1] != down[0]:
            raise WeightsError(f"{folder}: the factors of {layer} do not fit: shapes {list(down)} and {list(up)}.")
        layers[layer] = LoraFactors(keys["A"], keys["B"], _scale(config, layer, down[0]))
    return layers


def _scale(config: JsonObject, layer: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv:2312.03732); patterns name layers by their ends."""
    patterns = config.get("alpha_pattern") or {}
    own = next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer)), None)
    alpha = float(config.get("lora_alpha", 8) if own is None else own)
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)

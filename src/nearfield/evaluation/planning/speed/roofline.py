"""Speed and memory of a model on a machine that is not here, by a roofline.

A text takes the sum of two times, which overlap only in part:

- of the *host*: ``TEXT_SECONDS`` for each text (one thread), and its tokens / (``TOKENS_A_CORE`` x cores), since all
  cores tokenise;
- of the *device*: the larger of operations / (peak x share) and bytes / (bandwidth x ``BANDWIDTH_SHARE``).

A token costs 2 operations for each weight of the layers (and of a head over the vocabulary), and 4 x tokens x width of
the heads in each layer for attention. The bytes are the weights once a batch, and what the operations of each layer
pass to one another through memory.

The share of the peak that is reached is ``SHARES[kind] x width / (width + HALF_WIDTH[kind])``: narrow matrices use a
device badly. These constants were fitted on the rows with ``use = "fit"`` of ``published_speeds.toml``: share and half
width of GPUs (RTX 3090 with MiniLM and BERT-base, L4 with BERT-large), the share of CPUs (Nearfield with MiniLM on two
cores of an EPYC), ``OTHER_CPU_ENGINES`` (sentence-transformers with BERT-base on an i7-13700K), ``INT8_SHARE`` (ONNX
with BERT-small on 16 vCPU) and ``TEXT_SECONDS`` (a static model on the i7). Not fitted, for lack of figures, are:
Apple's GPUs, which count as other GPUs do; ``TILE_SHARE``; ``TOKENS_A_CORE``, a usual rate of Hugging Face's
tokenizers. The other rows check the result.

No library does this for encoders: those for language models (calculon, llm-viewer) model decoding and have no host.
The roofline model: Williams, Waterman, Patterson, "Roofline", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nearfield.errors import InputError, nearest
from nearfield.evaluation.planning.speed.machines import PRECISION_BYTES, Machine
from nearfield.evaluation.planning.speed.model_shapes import ModelShape

#: The factor within which 8 of 10 published figures lie of their estimate, up or down; a test counts them.
ERROR_FACTOR = 2.0
#: The share of the peak that very wide matrices reach, and the width at which half of it is reached.
SHARES: Mapping[str, float] = MappingProxyType({"gpu": 0.60, "apple": 0.60, "cpu": 0.80})
HALF_WIDTH: Mapping[str, float] = MappingProxyType({"gpu": 1000.0, "apple": 1000.0, "cpu": 32.0})
#: What other software reaches on a CPU of what OpenVINO does there: PyTorch and ONNX Runtime.
OTHER_CPU_ENGINES = 0.375
#: The share in int8 on a CPU, and that of matrix tiles (AMX), whose peak is far above the rest of the processor.
INT8_SHARE, TILE_SHARE = 0.30, 0.12
#: A peak that is more than so many times that in float32 is one of tiles.
_TILE_RATIO = 4.0
#: Seconds of one thread for a text in bulk, and for a request over HTTP beside that (benchmarks/README.md).
TEXT_SECONDS, REQUEST_SECONDS = 6.7e-6, 0.8e-3
#: Tokens that a core tokenises in a second.
TOKENS_A_CORE = 300_000.0
BANDWIDTH_SHARE = 0.7
#: Share of the memory that a model and its batches can use; the rest is the system's.
MEMORY_SHARE = 0.9
#: Tokens of a batch in bulk.
BATCH_TOKENS: Mapping[str, int] = MappingProxyType({"gpu": 16_384, "apple": 8_192, "cpu": 8_192})
#: Bytes of a process without a model: interpreter and libraries; on a GPU, the context of the driver.
BASE_BYTES: Mapping[str, int] = MappingProxyType({"gpu": 600 * 2**20, "apple": 500 * 2**20, "cpu": 320 * 2**20})
#: The precision that Nearfield uses by itself, by kind: the first that the machine has. GPUs without bfloat16 (T4,
#: V100) are planned in float16, which has to be requested there.
_PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"gpu": ("bfloat16", "float16", "float32"), "apple": ("float32",), "cpu": ("bfloat16", "float32")}
)
#: Values of the hidden width that pass through memory in a layer, and those alive at once.
_PASSED, _ALIVE = 8, 6


@dataclass(frozen=True)
class MachineSpeed:
    """Estimates for one machine of a table, in one precision (default: the one Nearfield chooses there).

    Implements ``SpeedModel``. ``engine`` is ``nearfield``, or any other software, which is slower on CPUs.

    Raises:
        InputError: the machine has no peak in the precision.
    """

    machine: Machine
    precision: str = ""
    engine: str = "nearfield"

    def __post_init__(self) -> None:
        """Choose the precision, or check it."""
        rates = self.machine.peak
        chosen = self.precision or next(name for name in _PRECISIONS[self.machine.kind] if name in rates)
        if chosen not in rates:
            raise InputError(
                f"{self.machine.name} has no peak in {chosen!r}. {nearest(chosen, rates)}", param="precision"
            )
        object.__setattr__(self, "precision", chosen)

    @property
    def error(self) -> float:
        """The factor of the estimates' error, up or down."""
        return ERROR_FACTOR

    @property
    def capacity(self) -> int:
        """The bytes that a model, its batches and vectors can use."""
        return round(self.machine.memory * MEMORY_SHARE)

    @property
    def batch_tokens(self) -> int:
        """The tokens of a batch in bulk."""
        return BATCH_TOKENS[self.machine.kind]

    def tokens_per_second(self, shape: ModelShape, tokens: float) -> float:
        """Return the bulk speed on texts of ``tokens`` tokens.

        Raises:
            InputError: ``tokens`` is not above 0 and finite.
        """
        return tokens / self.seconds_per_text(shape, tokens)

    def requests_per_second(self, shape: ModelShape, tokens: float) -> float:
        """Return the most requests of one text each that a server of one process answers; they share batches."""
        return 1.0 / (self.seconds_per_text(shape, tokens) + REQUEST_SECONDS)

    def seconds_per_text(self, shape: ModelShape, tokens: float) -> float:
        """Return the seconds for a text in bulk, on host and device."""
        check_tokens(tokens)
        return self.host_seconds(tokens) + self.device_seconds(shape, tokens)

    def host_seconds(self, tokens: float) -> float:
        """Return the seconds to prepare a text: tokenising and handling."""
        return TEXT_SECONDS + tokens / (TOKENS_A_CORE * self.machine.cores)

    def device_seconds(self, shape: ModelShape, tokens: float) -> float:
        """Return the seconds to compute a text: the larger of arithmetic and memory."""
        return tokens * max(self._arithmetic_seconds(shape, tokens), self._memory_seconds(shape))

    def model_bytes(self, parameters: int) -> int:
        """Return the bytes of a process with this model, without texts in progress."""
        return BASE_BYTES[self.machine.kind] + round(parameters * PRECISION_BYTES[self.precision])

    def activation_bytes(self, shape: ModelShape, tokens: int) -> int:
        """Return the bytes of the intermediate results of a batch of ``tokens`` tokens.

        Alive at once are six values of the hidden width, the inner values before and after their function (of gated
        layers three), and the scores of the vocabulary if each token has them. Attention is computed in tiles.
        """
        if not shape.layers:
            return tokens * shape.hidden * 4
        inner = shape.inner * (3 if shape.gated else 2)
        scores = shape.vocabulary if shape.scores_words else 0
        return round(tokens * (_ALIVE * shape.hidden + inner + scores) * self._value_bytes)

    def explain(self, shape: ModelShape, tokens: float) -> list[str]:
        """Return the arithmetic of ``tokens_per_second`` as lines."""
        text = self.seconds_per_text(shape, tokens)
        host, device = self.host_seconds(tokens), self.device_seconds(shape, tokens)
        rate = f"{TOKENS_A_CORE:,.0f} tokens/s x {self.machine.cores} cores"
        sums = f"{_micro(device)} + {_micro(host)} = {_micro(text)}"
        return [
            *self._explain_device(shape, tokens),
            f"host: {_micro(TEXT_SECONDS)} + {tokens:g} tokens / ({rate}) = {_micro(host)} a text",
            f"a text: {sums}: {1 / text:,.1f} texts/s, {tokens / text:,.0f} tokens/s",
            f"error: a factor of {self.error:g} up or down, in 8 of 10 published cases",
        ]

    def _explain_device(self, shape: ModelShape, tokens: float) -> list[str]:
        moved, size = self._memory_seconds(shape), self._bytes_per_token(shape)
        rate = f"{self.machine.bandwidth / 1e9:,.0f} GB/s x {BANDWIDTH_SHARE:g}"
        memory = f"memory: {size:,.0f} bytes a token / ({rate}) = {_micro(moved)}"
        if not shape.layers:
            return ["operations: none, a static model looks vectors up", memory]
        flops, seconds = flops_per_token(shape, tokens), self._arithmetic_seconds(shape, tokens)
        peak = (
            f"{self.machine.peak[self.precision] / 1e12:,.3g} T/s in {self.precision} x {self.share(shape):.1%} reached"
        )
        head = f" + {shape.head_weights:,}" if shape.head_weights else ""
        weights = f"2 x ({shape.layers} layers x {shape.layer_weights:,}{head}) weights"
        attention = f"{shape.layers} x 4 x {tokens:g} tokens x {shape.heads_width} wide"
        return [
            f"operations: {weights} + {attention} = {flops / 1e6:,.1f} M a token",
            f"arithmetic: {flops / 1e6:,.1f} M / ({peak}) = {_micro(seconds)}",
            memory,
            f"device: {tokens:g} tokens, {'memory' if moved > seconds else 'arithmetic'} is the limit",
        ]

    def share(self, shape: ModelShape) -> float:
        """Return the share of the peak that the matrix products of a model of this width reach."""
        kind, half = self.machine.kind, HALF_WIDTH[self.machine.kind]
        engine = 1.0 if kind != "cpu" or self.engine == "nearfield" else OTHER_CPU_ENGINES
        return engine * self._widest_share() * shape.hidden / (shape.hidden + half)

    def _widest_share(self) -> float:
        if self.machine.kind != "cpu":
            return SHARES[self.machine.kind]
        if self.precision == "int8":
            return INT8_SHARE
        tiles = self.machine.peak[self.precision] > _TILE_RATIO * self.machine.peak["float32"]
        return TILE_SHARE if tiles else SHARES["cpu"]

    def _arithmetic_seconds(self, shape: ModelShape, tokens: float) -> float:
        return flops_per_token(shape, tokens) / (self.machine.peak[self.precision] * self.share(shape))

    def _memory_seconds(self, shape: ModelShape) -> float:
        return self._bytes_per_token(shape) / (self.machine.bandwidth * BANDWIDTH_SHARE)

    def _bytes_per_token(self, shape: ModelShape) -> float:
        """Return the bytes read and written for a token: a share of the weights, and the results of each layer."""
        if not shape.layers:
            return shape.hidden * 4.0
        weights = (shape.layers * shape.layer_weights + shape.head_weights) * PRECISION_BYTES[self.precision]
        inner = shape.inner * (3 if shape.gated else 2)
        passed = shape.layers * (_PASSED * shape.hidden + inner) * self._value_bytes
        return weights / self.batch_tokens + passed

    @property
    def _value_bytes(self) -> int:
        """Bytes of an intermediate value; with int8 weights these stay wider."""
        return max(2, PRECISION_BYTES[self.precision])


def flops_per_token(shape: ModelShape, tokens: float) -> float:
    """Return the floating-point operations for a token of a text of ``tokens`` tokens."""
    weights = shape.layers * shape.layer_weights + shape.head_weights
    return 2.0 * weights + 4.0 * shape.layers * tokens * shape.heads_width


def check_tokens(tokens: float) -> None:
    """Raise InputError unless a number of tokens is above 0 and finite."""
    if not 0 < tokens < math.inf:
        raise InputError(f"A text has more than 0 tokens, and not {tokens}.", param="tokens")


def _micro(seconds: float) -> str:
    """Format seconds as microseconds with four digits or more."""
    return f"{seconds * 1e6:,.4g} us" if seconds < 1e-3 else f"{seconds * 1e6:,.0f} us"

"""The OpenVINO backend, which builds a graph directly from the weights, without torch and without an export.

It uses padded batches, dynamic shapes, and bf16 matrix units where the CPU has them. Each lane has one stream.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.backends import Backend, BackendOptions, Inputs, Program
from nearfield.backends.lone_batches import LoneBatchProgram
from nearfield.backends.openvino_ops import Node, OpenVinoOps, op, ov
from nearfield.backends.packed_program import PackedProgram, open_temporary
from nearfield.backends.weight_file import WeightFile
from nearfield.checkpoint.weights import quantized
from nearfield.errors import InputError, ModelRefused
from nearfield.fileio.atomic import write_atomic
from nearfield.hardware import auto_precision, has_int8, memory_limit, memory_used
from nearfield.ops import INPUTS, Graph
from nearfield.units import format_bytes

#: Cached kernels per stream, by batch shape; OpenVINO's default is 5,000, with which memory grows for each new shape.
_KERNEL_CACHE = "50"
#: Values of the input of a matrix product that share a scale in ``int8-dynamic``: with more, accuracy falls.
_GROUP = 64
#: Bytes of weights of models that have a second program, for batches that run alone. It has its own matrices, which
#: large models have no room for; small ones do not gain.
_LONE_BYTES = range(2**22, 2**29)
#: Its cached kernels: enough for all its batch shapes (by measurement 50 MB).
_LONE_KERNEL_CACHE = "1000"
#: The form of the weights by precision; in others they are float32.
_WEIGHTS: Mapping[str, Literal["int8", "int4"]] = {"int8": "int8", "int8-dynamic": "int8", "int4": "int4"}

_LOG = logging.getLogger(__name__)
_TYPES = {"int32": ov.Type.i32, "float32": ov.Type.f32}


class OpenVinoLane:
    """One infer request; ``weights`` are arrays whose memory the compiled model reads."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        names: tuple[str, ...],
        factors: Sequence[ov.Tensor] = (),
        weights: Sequence[Array] = (),
    ) -> None:
        self._weights = weights
        self._request = compiled.create_infer_request()
        self._ports = [(name, compiled.input(name)) for name in names]
        for number, tensor in enumerate(factors, len(names)):
            self._request.set_tensor(compiled.inputs[number], tensor)

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        # The tensors copy: sharing numpy's memory with OpenVINO 2026.4 corrupts the heap under load.
        for name, port in self._ports:
            self._request.set_tensor(port, ov.Tensor(np.ascontiguousarray(inputs[name])))
        self._request.infer()
        return {name: np.array(self._request.get_tensor(name).data, np.float32) for name in outputs}


class OpenVinoProgram:
    """A compiled model and the names of its inputs."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        names: tuple[str, ...],
        precision: str,
        factors: Sequence[ov.Tensor] = (),
        weights: Sequence[Array] = (),
    ) -> None:
        self._compiled = compiled
        self._factors = factors
        self._weights = weights
        self._names = names
        self.precision = precision

    def create_executor(self) -> OpenVinoLane:
        return OpenVinoLane(self._compiled, self._names, self._factors, self._weights)

    @property
    def factors(self) -> list[Array]:
        """The factors of adapters, with which its last inputs are fed."""
        return [np.array(tensor.data) for tensor in self._factors]

    def export(self) -> memoryview:
        """Return the compiled model as a file that OpenVINO reads."""
        data: memoryview = self._compiled.export_model().getbuffer()
        return data


class OpenVinoBackend(Backend):
    """CPU by OpenVINO. ``auto`` means bf16 where an x86 CPU multiplies it natively, else float32.

    ``int8`` has the weights in int8 and computes as ``auto`` does, ``int4`` has matrices in int4 and tables in int8.
    ``int8-dynamic`` quantises the inputs of matrix products too, 64 values at a time, where the CPU multiplies int8
    natively, on x86.
    """

    code_modules = (OpenVinoOps.__module__, quantized.__name__)

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        wished = options.precision
        if wished == "int8-dynamic" and not has_int8():
            raise InputError(
                "precision 'int8-dynamic' needs an x86 CPU that multiplies int8 natively (AVX-512 VNNI, AVX-VNNI or "
                "AMX), and this one does not: use int8, which has the weights alone in int8.",
                param="precision",
            )
        self._computed = auto_precision() if wished in ("auto", "int8", "int4") else "float32"
        self.precision = wished if wished in _WEIGHTS else self._computed

    def compile(self, graph: Graph) -> Program:
        programs = self._programs(graph, self._lone_config())
        return LoneBatchProgram(*programs) if len(programs) == 2 else programs[0]

    def _programs(self, graph: Graph, lone: Mapping[str, str | int]) -> list[OpenVinoProgram]:
        """Return the program that lanes share, and that for what runs alone if the model is to have one."""
        core, shared = ov.Core(), self._config()
        if cached := self._cached_programs(core, graph, shared, lone):
            return cached
        with WeightFile(self.options.cache) as file:
            model, factors = _model(graph, self._ops(file))
        configs = [shared, lone] if lone and _constants(model) in _LONE_BYTES else [shared]
        compiled = [core.compile_model(model, "CPU", config) for config in configs]
        # The shared one is saved last, and only if the other is: without it, both are compiled again.
        for one, config in reversed(list(zip(compiled, configs, strict=True))):
            blob = self._blob(graph, config)
            if blob is None or not _save(one, blob):
                break
        return [OpenVinoProgram(one, graph.inputs, self.precision, factors, file.mapped) for one in compiled]

    def _cached_programs(
        self, core: ov.Core, graph: Graph, shared: Mapping[str, str | int], lone: Mapping[str, str | int]
    ) -> list[OpenVinoProgram]:
        """Return the programs that an earlier process has saved, the shared one first; none if a file was damaged."""
        saved = [config for config in (shared, lone) if config and self._is_saved(graph, config)]
        if saved[:1] != [shared]:
            return []
        programs = [self._cached(core, graph, config) for config in saved]
        is_whole = programs[0] is not None and all(self._is_saved(graph, config) for config in saved)
        return [program for program in programs if program is not None] if is_whole else []

    def _is_saved(self, graph: Graph, config: Mapping[str, str | int]) -> bool:
        blob = self._blob(graph, config)
        return blob is not None and blob.is_file()

    def _cached(self, core: ov.Core, graph: Graph, config: Mapping[str, str | int]) -> OpenVinoProgram | None:
        """Return the program that an earlier process has saved, if it can be read."""
        blob = self._blob(graph, config)
        compiled = None if blob is None else self._load(core, blob, config)
        return None if compiled is None else OpenVinoProgram(compiled, graph.inputs, self.precision)

    def pack(self, graph: Graph) -> PackedProgram:
        (program,), blob = self._programs(graph, {}), self._blob(graph, self._config())
        load = partial(
            _load_program,
            names=graph.inputs,
            precision=self.precision,
            config=self._config(),
            factors=program.factors,
        )
        if blob is not None and blob.is_file():
            return PackedProgram(blob.open("rb"), load, self.precision)
        file = open_temporary(self.options.cache)
        file.write(program.export())
        file.flush()
        return PackedProgram(file, load, self.precision)

    def _ops(self, file: WeightFile) -> OpenVinoOps:
        cpu = self.options.cpu
        return OpenVinoOps(
            separate_gates=self._computed == "bf16" and cpu.threads < 2 * cpu.streams,
            weights=_WEIGHTS.get(self.precision, "float"),
            file=file,
        )

    def _config(self) -> dict[str, str | int]:
        cpu = self.options.cpu
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if self._computed == "bf16" else "f32",
            "NUM_STREAMS": cpu.streams,
            "INFERENCE_NUM_THREADS": cpu.threads,
            "CPU_RUNTIME_CACHE_CAPACITY": _KERNEL_CACHE,
            # OpenVINO would choose by itself, by what the CPU can do.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if self.precision == "int8-dynamic" else 0,
        }

    def _lone_config(self) -> dict[str, str | int]:
        """Return the configuration for a batch that runs alone; none where a stream has all threads anyway."""
        if self.options.cpu.streams < 2 or self.options.reproducible:
            return {}
        # Streams have their threads bound to cores. With those of this one bound too, two could share a core.
        return {
            **self._config(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": "NO",
            "CPU_RUNTIME_CACHE_CAPACITY": _LONE_KERNEL_CACHE,
        }

    def _blob(self, graph: Graph, config: Mapping[str, str | int]) -> Path | None:
        """Name the cache file by everything that shapes what is compiled."""
        if self.options.cache is None or not graph.digest or "adapters" in graph.inputs:
            return None  # adapters' factors are fed, not compiled: a file would lack them
        parts = (
            graph.digest,
            platform.machine(),
            ov.get_version(),
            self.precision,
            *sorted(map(str, config.items())),
        )
        return self.options.cache / (hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] + ".ov")

    def _load(self, core: ov.Core, blob: Path, config: Mapping[str, str | int]) -> ov.CompiledModel | None:
        """Return the cached model, or None when the file is damaged or from another machine."""
        try:
            return core.import_model(ov.Tensor(np.memmap(blob, np.uint8, "r")), "CPU", config)
        except OSError:  # it cannot be read, or was removed
            return None
        except (RuntimeError, ValueError):  # the latter: it is empty
            with suppress(OSError):  # the folder may be read-only
                if (limit := memory_limit()) is None or limit.available > blob.stat().st_size:
                    blob.unlink(missing_ok=True)  # otherwise it may be memory that is missing
            return None


def _load_program(
    data: memoryview,
    *,
    names: tuple[str, ...],
    precision: str,
    config: Mapping[str, str | int],
    factors: Sequence[Array],
) -> OpenVinoProgram:
    """Return the program of an exported model, which reads its constants from the memory of ``data``."""
    array = np.asarray(data)
    compiled = ov.Core().import_model(ov.Tensor(array), "CPU", dict(config))
    return OpenVinoProgram(compiled, names, precision, [ov.Tensor(factor) for factor in factors], [array])


def _model(graph: Graph, run: OpenVinoOps) -> tuple[ov.Model, list[ov.Tensor]]:
    """Build the graph. The tensors are adapters' factors, which its last inputs are always fed with."""
    parameters = {name: _parameter(name, graph.sizes.get(name, -1)) for name in graph.inputs}
    hidden = {} if graph.external_encoder is None else {"hidden": _external_encoder(graph.external_encoder, parameters)}
    outputs = graph.forward(run, {**parameters, **hidden})
    results = []
    for name in graph.outputs:
        result = op.result(outputs[name])
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    factors = [parameter for parameter, _ in run.factors]
    return ov.Model(results, [*parameters.values(), *factors], "nearfield"), [tensor for _, tensor in run.factors]


def _constants(model: ov.Model) -> int:
    """Return the bytes of a graph's constants."""
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def _external_encoder(path: Path, parameters: Mapping[str, Node]) -> Node:
    """Read an exported encoder (ONNX or OpenVINO), feed it from our inputs, and return its hidden states.

    Raises:
        ModelRefused: it asks for inputs that are not known, or does not give one state a token.
    """
    if path.is_dir():
        raise ModelRefused(f"{path} has an architecture without a family here: load it with backend='transformers'.")
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        raise ModelRefused(f"{path} cannot be read by OpenVINO: {str(error).splitlines()[-1]}") from error
    ids, segments = parameters["ids"], parameters["segments"]
    feeds = {
        "input_ids": ids,
        "attention_mask": op.greater(segments, op.constant(np.int32(0))),
        "token_type_ids": op.multiply(ids, op.constant(np.int32(0))),
        "position_ids": parameters["places"],
    }
    for parameter in model.get_parameters():
        name = next(
            (
                name
                for name in feeds
                if name in parameter.output(0).get_names() or name == parameter.get_friendly_name()
            ),
            None,
        )
        if name is None:
            raise ModelRefused(
                f"{path} asks for the input {parameter.get_friendly_name()!r}; known are {', '.join(feeds)}."
            )
        parameter.output(0).replace(op.convert(feeds[name], parameter.get_element_type()).output(0))
    states = next((output for output in model.outputs if "last_hidden_state" in output.get_names()), model.outputs[0])
    if states.get_partial_shape().rank.get_length() != 3:
        raise ModelRefused(
            f"{path} gives {states.get_partial_shape()}, where one state a token was expected [B, L, H]."
        )
    return states.get_node().input(0).get_source_output()


def _parameter(name: str, size: int) -> Node:
    dtype, rank = INPUTS[name]
    node = op.parameter([-1] * (rank - 1) + [size], _TYPES[dtype], name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _save(compiled: ov.CompiledModel, blob: Path) -> bool:
    """Write beside and rename, so that a reader never sees half a file; a full disk only costs the next start.

    Return whether it is saved.

    OpenVINO writes to memory first. Where that may not be available, the file is left out.
    """
    limit, used = memory_limit(), memory_used()
    if limit is not None and used is not None and limit.available < used:
        _LOG.warning(
            "The compiled model is not saved for the next start: only %s of memory are free",
            format_bytes(limit.available, limit.bytes),
        )
        return False
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(blob, compiled.export_model().getbuffer(), shared=True)
    except OSError as error:
        _LOG.warning("The compiled model could not be saved for the next start: %s", error)
        return False
    return True

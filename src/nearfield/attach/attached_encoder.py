"""`AttachedEncoder`: an encoder whose vectors a server computes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from nearfield.attach.attached_client import read_array, without_none
from nearfield.attach.attached_model import AttachedModel
from nearfield.attach.model_facts import check_load_options, check_space
from nearfield.attach.server_choice import read_files
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.client.inputs import BodyInput, body_inputs, to_body
from nearfield.encoder import OWN_KEYWORDS, Encoder
from nearfield.errors import InputError, SpaceMismatch
from nearfield.inference import encode_options, postprocess
from nearfield.inference.calls.keywords import check_keywords, read_options
from nearfield.inference.calls.limits import NO_LIMITS, CallLimits, TimedResult
from nearfield.inference.encode_options import EncodeKeywords, EncodeOptions, OptionDefaults, ResolvedOptions, Unpack
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.postprocess import COUNT_TYPE, Result, build_dense
from nearfield.inference.preparation import inputs
from nearfield.inference.preparation.inputs import LARGEST_WINDOW, Input, list_inputs
from nearfield.inference.preparation.late_interaction import LateInteractionFormatter
from nearfield.inference.preparation.refused_inputs import OnRefused
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.recipe import Multivector
from nearfield.vectors.dense import Vectors, quantize
from nearfield.vectors.fingerprint import mapped_space, unmapped
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.rows import row_bounds
from nearfield.vectors.sparse import SparseVectors
from nearfield.vectors.vector_map import VectorMap, read_query_map

#: Requests that are open at the same time.
CONCURRENT_REQUESTS = 4
#: Fields that late chunking does not have: it reads whole documents.
_NOT_LATE = ("truncate", "max_length")
#: Options of a call that are sent unchanged, by the fields of the API.
_FIELDS = {
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "adapter": "adapter",
    "normalize": "normalize_embeddings",
    "truncate": "truncate",
}


@dataclass(frozen=True)
class SentOptions(ResolvedOptions):
    """Options that were resolved here, to check them, and those of the caller, which are sent."""

    sent: EncodeOptions = field(default_factory=EncodeOptions)


def attach_encoder(
    url: str, model: str | UncompiledModel, options: Mapping[str, Any], *, discovered: bool = False
) -> Encoder:
    """Return an encoder of a server; options are those of ``Encoder``. Raises as ``open_encoder`` does."""
    check_keywords("Encoder", options, LoadKeywords.__optional_keys__ | {*OWN_KEYWORDS})
    check_load_options(options)
    uncompiled = read_files(model, options)
    Encoder.check_kind(uncompiled.recipe)
    names = ("max_length", "precision", "truncate_dim", "force_truncate_dim", "query_map")
    chosen = {name: options[name] for name in names if name in options}
    return AttachedEncoder(uncompiled, url, discovered=discovered, **chosen)


class AttachedEncoder(AttachedModel, Encoder):
    """An encoder without weights: texts and media are sent to a server, and results are those of its ``Encoder``.

    ``load_adapter``, ``submit`` and ``encode_tokens`` are refused. Use ``open_encoder`` to create one.
    """

    def __init__(
        self,
        model: UncompiledModel,
        url: str,
        *,
        truncate_dim: int | None = None,
        force_truncate_dim: bool = False,
        query_map: str | Path | VectorMap | None = None,
        max_length: int | None = None,
        precision: str = "auto",
        discovered: bool = False,
    ) -> None:
        vector_map = read_query_map(query_map)
        self._attach(model, url, max_length, precision, discovered=discovered)
        recipe = self.recipe
        self._arguments |= {"truncate_dim": truncate_dim, "force_truncate_dim": force_truncate_dim}
        self._arguments |= {"query_map": vector_map}
        truncate_dim = recipe.truncate_dim if truncate_dim is None else truncate_dim
        if recipe.modules:
            encode_options.resolve_dimensions(recipe, truncate_dim, force_truncate_dim)
        multivector, processor = recipe.head("multivector"), self._model.processor
        formats = isinstance(multivector, Multivector) and isinstance(processor, Tokenizer)
        formatter = LateInteractionFormatter(multivector, processor) if formats else None  # type: ignore[arg-type]
        self._defaults = OptionDefaults(self.default_adapter, truncate_dim, force_truncate_dim, formatter, vector_map)
        self._check_query_map()
        self._preparer, self._fused_preparer = self._create_preparer(formatter), None
        self.cache, self.observers = None, []

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach_again, self._state()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _resolve(self, options: EncodeOptions) -> ResolvedOptions:
        resolved = super()._resolve(options)
        return SentOptions(**{one.name: getattr(resolved, one.name) for one in fields(ResolvedOptions)}, sent=options)

    def _windows(
        self,
        items: Iterable[Input],
        options: ResolvedOptions,
        unread: UnreadInputs,
        *,
        max_size: int = LARGEST_WINDOW,
        steady: bool = False,
        ends_after_error: bool = False,  # noqa: ARG002 - each window is finished before the next is read
        on_refused: OnRefused | None = None,
    ) -> Iterator[Result]:
        if on_refused is not None:
            raise InputError(
                "A server refuses a request with a picture, sound or video that cannot be read: to leave these out, "
                "load the model here, without NEARFIELD_SERVER.",
                param="on_refused",
            )
        number = 0
        with ThreadPoolExecutor(1 if steady else CONCURRENT_REQUESTS) as pool:
            for modality, window in inputs.windows(items, max_size):
                yield self._encode_window(pool, window, options, number)
                number += len(window)
                self._count_window(modality, window, options, unread)

    def _encode_window(
        self, pool: ThreadPoolExecutor, window: Sequence[Input], options: ResolvedOptions, number: int
    ) -> Result:
        batches = list(_batches(window))
        starts = np.cumsum([0, *map(len, batches)]) + number
        body = self._body(options)
        replies = pool.map(
            lambda batch, start: list(self._client.post_parts("/encode", body, "input", batch, int(start))),
            batches,
            starts,
        )
        parts = [self._read(reply, options) for part in replies for reply in part]
        result = postprocess.concatenate_results(parts, False)
        return self._quantized(result, options)

    def _body(self, options: ResolvedOptions) -> dict[str, object]:
        sent = cast(SentOptions, options).sent
        body = without_none((name, getattr(sent, keyword)) for name, keyword in _FIELDS.items())
        body |= without_none([("max_length", self._sent_length(sent.max_length))])
        if "dense" in options.outputs:
            # A map reads whole vectors: they are truncated here, after it.
            whole = options.query_map is not None
            dimensions = self.recipe.dimensions if whole else options.dimensions
            body |= {"dimensions": int(dimensions), "force_dimensions": True}
        return {**body, "outputs": list(options.outputs)}

    def _read(self, reply: Mapping[str, Any], options: ResolvedOptions) -> Result:
        counts = {name: np.array(reply[name], COUNT_TYPE) for name in ("tokens", "dropped", "unknown")}
        for name in options.outputs:
            check_space(self._client, options.space, unmapped(reply[name]["fingerprint"]))  # its server may map queries
        results = {name: _READERS[name](reply[name], counts) for name in options.outputs}
        if options.query_map is not None:
            results["dense"] = self._mapped(results["dense"], options, options.query_map)
        return Outputs(**cast(Any, results)) if options.returns_outputs else results[options.outputs[0]]

    def _mapped(self, vectors: Vectors, options: ResolvedOptions, query_map: VectorMap) -> Vectors:
        """Return whole vectors moved by the map of this encoder, and truncated.

        Raises:
            SpaceMismatch: the server has moved them by another map.
        """
        moved = mapped_space(options.space, query_map.digest)
        reached = vectors.fingerprint.partition(":")[0]
        if reached not in (options.space, moved):
            raise SpaceMismatch(
                f"{self._client.url} moves queries of {self.name} by another map ({vectors.fingerprint}) than "
                "query_map. Leave query_map out, or remove the map from the server's model_settings."
            )
        rest = replace(options, precision="float32", ranges=None)
        rest = replace(rest, query_map=None, space=moved) if reached == moved else rest
        counts = {"tokens": vectors.tokens, "dropped": vectors.dropped, "unknown": vectors.unknown}
        return build_dense(rest, np.asarray(vectors.data, np.float32), cast(Any, {**counts, "single": False}))

    def _quantized(self, result: Result, options: ResolvedOptions) -> Result:
        """Return dense vectors in the number format of the call; here, so that one window has one range."""
        if options.precision == "float32" and options.ranges is None:
            return result
        if isinstance(result, Outputs):
            dense = cast(Vectors, self._quantized(cast(Vectors, result.dense), options))
            return replace(result, dense=dense)
        unit = options.rescale_after_truncation
        return quantize(cast(Vectors, result), options.precision, options.ranges, unit=unit)

    def _count_window(
        self, modality: str, window: Sequence[Input], options: ResolvedOptions, unread: UnreadInputs
    ) -> None:
        if modality != "text":
            return unread.skip(len(window))
        texts = cast("Sequence[inputs.Text]", window)
        tokens = self._texts.tokenize(texts, replace(options, truncate="report"))
        return unread.add(self.tokenizer, options.prompt, texts, tokens)

    async def run_encode(
        self, texts: Any, options: EncodeOptions, limits: CallLimits = NO_LIMITS, unread: UnreadInputs | None = None
    ) -> TimedResult[Result]:
        """Run ``aencode`` with options as objects; the requests are sent from a thread."""
        resolved = self._resolve(options)
        single, items = list_inputs(texts, self.modalities, fuses=self.recipe.fuses)
        counter = UnreadInputs() if unread is None else unread
        started = time.monotonic()
        parts = await self._in_thread(lambda: list(self._windows(items, resolved, counter)), limits)
        result = postprocess.concatenate_results(parts or [self._empty_result(resolved)], single)
        return TimedResult(result, {"run": time.monotonic() - started})

    def encode_late(self, documents: Sequence[Sequence[str]], **options: Unpack[EncodeKeywords]) -> list[Vectors]:
        """Encode whole documents and pool each of their chunks, as ``Encoder.encode_late`` does."""
        return self._encode_late(documents, read_options("Encoder.encode_late", options))

    async def run_encode_late(
        self, documents: Sequence[Sequence[str]], options: EncodeOptions, limits: CallLimits = NO_LIMITS
    ) -> TimedResult[list[Vectors]]:
        """Run ``aencode_late`` with options as objects; the requests are sent from a thread."""
        started = time.monotonic()
        rows = await self._in_thread(lambda: self._encode_late(documents, options), limits)
        return TimedResult(rows, {"run": time.monotonic() - started})

    def _encode_late(self, documents: Sequence[Sequence[str]], options: EncodeOptions) -> list[Vectors]:
        resolved = self._resolve_late(options)
        if self._max_length not in (None, self._client.expected["max_length"]):
            self._refuse("encode_late with a smaller max_length")
        rows: list[Vectors] = []
        for number, chunks in enumerate(inputs.check_documents(documents)):
            body = {name: value for name, value in self._body(resolved).items() if name not in _NOT_LATE}
            reply = self._client.post("/encode", {**body, "documents": [list(chunks)]}, number)
            bounds = row_bounds(reply["documents"])
            vectors = cast(Vectors, self._quantized(self._read(reply, resolved), resolved))
            rows += [cast(Vectors, vectors[start:stop]) for start, stop in pairwise(bounds)]
        return rows

    # -- what only a loaded model has ----------------------------------------------------------------------------------

    def _encode_tokens(self, texts: Any, options: EncodeOptions) -> MultiVectors:  # noqa: ARG002
        self._refuse("encode_tokens")

    def submit(self, inputs: Any, **options: Any) -> NoReturn:  # noqa: ARG002
        """Raise InputError: only an engine in this process has tickets."""
        self._refuse("submit")


def _attach_again(url: str, model: str, options: Mapping[str, Any], discovered: bool) -> Encoder:
    return attach_encoder(url, model, options, discovered=discovered)


def _batches(window: Sequence[Input]) -> Iterator[Sequence[BodyInput | list[int]]]:
    """Yield the inputs of each request: token ids as lists, all else as the clients send it."""
    if any(isinstance(item, (list, tuple, np.ndarray)) for item in window):
        for start in range(0, len(window), 64):
            yield [_body_input(item) for item in window[start : start + 64]]
    else:
        yield from body_inputs(cast(Any, window))


def _body_input(item: Any) -> BodyInput | list[int]:
    return [int(number) for number in item] if isinstance(item, (list, tuple, np.ndarray)) else to_body(item)


def _read_dense(fields: Mapping[str, Any], counts: Mapping[str, Any]) -> Vectors:
    return Vectors(read_array(fields["data"]), fields["fingerprint"], fields["dimensions"], **counts)


def _read_sparse(fields: Mapping[str, Any], counts: Mapping[str, Any]) -> SparseVectors:
    indptr = row_bounds(cast(Any, read_array(fields["lengths"])))
    indices, values = read_array(fields["indices"]), read_array(fields["values"])
    return SparseVectors(indices, values, indptr, fields["dimensions"], fields["fingerprint"], **counts)


def _read_multivectors(fields: Mapping[str, Any], counts: Mapping[str, Any]) -> MultiVectors:
    indptr = row_bounds(cast(Any, read_array(fields["lengths"])))
    data = read_array(fields["data"])
    return MultiVectors(data, indptr, fields["fingerprint"], fields["average"], **counts)


_READERS: Mapping[str, Any] = {"dense": _read_dense, "sparse": _read_sparse, "multivector": _read_multivectors}

"""`Encoder`: a loaded model that turns texts, pictures, videos or sounds into dense, sparse or token vectors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.engine.job import Ticket
from nearfield.errors import ModelRefused
from nearfield.inference import encode_options, postprocess
from nearfield.inference.calls import zero_shot as label_scores
from nearfield.inference.calls.keywords import (
    EncodeCallKeywords,
    EncodeRoleKeywords,
    ReturnForm,
    check_keywords,
    read_encode_keywords,
    read_options,
)
from nearfield.inference.calls.limits import NO_LIMITS, CallLimits, TimedResult
from nearfield.inference.calls.picture_meter import PictureMeter
from nearfield.inference.calls.prediction import Prediction
from nearfield.inference.encode_options import (
    EncodeKeywords,
    EncodeOptions,
    OptionDefaults,
    Unpack,
)
from nearfield.inference.encode_stages import EncodeStages
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.postprocess import Result, ResultCollector
from nearfield.inference.preparation import inputs
from nearfield.inference.preparation.fused_preparer import FusedPreparer
from nearfield.inference.preparation.input_preparer import InputPreparer
from nearfield.inference.preparation.inputs import (
    LARGEST_WINDOW,
    Inputs,
    Text,
    Texts,
    list_inputs,
    parse_inputs,
)
from nearfield.inference.preparation.late_interaction import LateInteractionFormatter
from nearfield.inference.preparation.media_inputs import one_modality
from nearfield.inference.preparation.media_preparer import MediaPreparer
from nearfield.inference.preparation.refused_inputs import OnRefused
from nearfield.inference.preparation.sparse_static import SparseStaticEmbedding
from nearfield.inference.preparation.tokenizer_threads import runs_inline, tokenize_in_parts
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.progress import Progress
from nearfield.recipe import Multivector, Recipe, Splade
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.vector_map import VectorMap, read_query_map

if TYPE_CHECKING:
    from nearfield.inference.result_cache import ResultCache


class Encoder(EncodeStages):
    """Turns texts, and pictures, videos or sounds where the model reads them, into vectors.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        truncate_dim: dimensions to keep when a call does not say; by default those that the model's folder states.
        force_truncate_dim: truncate even if the model was not trained for it.
        query_map: a folder of ``nearfield train map``, or a ``VectorMap``: moves dense vectors of the role ``query``.
        options: as for ``nearfield.load``: source, revision, precision, backend, threads, streams, max_length, kind,
            engine and others.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: its files cannot be loaded exactly.
        SpaceMismatch: the query map was fitted for another model.
    """

    def __init__(
        self,
        model: str | UncompiledModel = "all-MiniLM-L6-v2",
        *,
        truncate_dim: int | None = None,
        force_truncate_dim: bool = False,
        query_map: str | Path | VectorMap | None = None,
        **options: Unpack[LoadKeywords],
    ) -> None:
        check_keywords("Encoder", options, LoadKeywords.__optional_keys__, OWN_KEYWORDS)
        vector_map = read_query_map(query_map)  # an error before the model is loaded
        super().__init__(model, **options)
        recipe = self.recipe
        self._arguments |= {"truncate_dim": truncate_dim, "force_truncate_dim": force_truncate_dim}
        self._arguments |= {"query_map": vector_map}
        truncate_dim = recipe.truncate_dim if truncate_dim is None else truncate_dim
        if recipe.modules:
            encode_options.resolve_dimensions(recipe, truncate_dim, force_truncate_dim)
        multivector = recipe.head("multivector")
        formatter = (
            LateInteractionFormatter(multivector, self.tokenizer) if isinstance(multivector, Multivector) else None
        )
        self._defaults = OptionDefaults(self.default_adapter, truncate_dim, force_truncate_dim, formatter, vector_map)
        self._check_query_map()
        self._preparer = self._create_preparer(formatter)
        fused = self._model.fused_processor
        self._fused_preparer = None if fused is None else FusedPreparer(fused, self.max_length)
        #: Cache of results for ``aencode``. Models of one event loop can share it.
        self.cache: ResultCache | None = None
        #: Functions called with the name of a stage (tokenise, finish) of each asynchronous call, and its seconds.
        self.observers: list[Callable[[str, float], None]] = []

    @classmethod
    def check_kind(cls, recipe: Recipe) -> None:
        """Raise ModelRefused unless the model gives vectors."""
        if recipe.outputs[0] == "scores":
            raise ModelRefused(
                f"{recipe.name} scores texts and gives no vectors: "
                "load it as nearfield.Reranker or nearfield.Classifier, or by nearfield.load."
            )

    def require(self, output: str) -> None:
        """Raise InputError unless the model gives an output: ``dense``, ``sparse`` or ``multivector``."""
        encode_options.resolve_outputs(self.recipe, output)

    def _create_preparer(self, formatter: LateInteractionFormatter | None) -> InputPreparer | MediaPreparer:
        processor, sparse = self._model.processor, self.recipe.head("sparse")
        if not isinstance(processor, Tokenizer):
            return MediaPreparer(processor)
        query_weights = (
            SparseStaticEmbedding(sparse.query_weights, processor, int(self.recipe.config["vocab_size"]))
            if isinstance(sparse, Splade) and sparse.query_weights
            else None
        )
        return InputPreparer(processor, formatter, query_weights)

    # -- properties ----------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """The space of the vectors that ``encode`` gives without options."""
        return cast(Vectors, self._empty_result(self._resolve(EncodeOptions()))).fingerprint

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, dimensions={self.dimensions}, max_length={self.max_length}, {self.precision})"

    # -- encoding ------------------------------------------------------------------------------------------------

    def encode(
        self, texts: Inputs, *, show_progress_bar: bool | None = None, **options: Unpack[EncodeCallKeywords]
    ) -> Any:
        """Encode one input or several: texts, lists of token ids, and what else the model reads (``modalities``).

        Args:
            texts: a string, a sequence or iterable of strings, a list of token ids, or a list of such lists.
                An empty string is encoded as the model's special tokens alone. An empty list gives no vectors.
                A model of pictures or sounds takes `Image` and `Audio` too, paths, bytes, Pillow's pictures and
                arrays of pixels, in any order with texts. A string is always a text, and is never opened.
                Where the model reads them together, an input may have several parts: ``{"text": "a red shoe",
                "image": picture}``, or a list of parts within the list of inputs.
            show_progress_bar: True or False; None shows one on a terminal for more than 8,192 inputs. It shows tokens,
                or with pictures millions of pixels.
            prompt_name: a prompt of the model, by name or task.
            prompt: a text to put before each input.
            role: ``query`` or ``document``: use the model's own prompt for it.
            instruction: what the text is to be used for, in words, placed where the model was trained to read it
                (E5-instruct, Qwen3, Instructor). For other models it is used like ``prompt``.
            task: a task of the model by name: its prompt and, for jina-embeddings-v3, its adapter.
            outputs: kinds of output to compute in one pass: any of ``dense``, ``sparse`` and ``multivector`` that the
                model gives.
            adapter: the name of a loaded adapter (see ``load_adapter``).
            truncate_dim: dimensions to keep. Vectors that had unit length are rescaled to it.
            force_truncate_dim: truncate even if the model was not trained for it.
            normalize_embeddings: True to scale to unit length, False not to, where no module of the model does so
                always. By default CLIP and SigLIP are scaled, and other models are not.
            precision: float32, float16, int8, uint8, binary or ubinary (see ``vectors.dense.quantize``).
            ranges: calibrated ranges [2, dim] for int8 and uint8.
            truncate: what happens to an input that is too long. ``report`` cuts the end, or the side that the model's
                folder names, and counts it in ``Vectors.dropped``; ``right`` and ``left`` cut that side; ``error``
                raises; ``chunk`` encodes pieces that end with sentences, and returns their weighted mean.
            max_length: tokens to read of each input, if fewer than the model reads.
            convert_to_tensor: return a torch tensor; ``device`` is where it is put.
            batch_size, chunk_size, pool, convert_to_numpy: accepted as sentence-transformers has them. They change
                nothing: batches are built from tokens, and all cores are used already.
            output_value: ``sentence_embedding``, or ``token_embeddings`` for a list of arrays [tokens, dim]: the states
                of ``encode_tokens``.

        Returns:
            Vectors, which are a NumPy array: float32 [n, dim], or [dim] if ``texts`` is a single input. A model
            without a dense output gives SparseVectors or MultiVectors. With ``outputs``, Outputs of those kinds.

        Raises:
            InputError: an argument or input is invalid; nothing was encoded.
        """
        parsed, form = read_encode_keywords("Encoder.encode", options, _SHOWN)
        return self._encode_as(form, texts, parsed, show_progress_bar)

    def _encode_as(
        self, form: ReturnForm, texts: Inputs, options: EncodeOptions, show_progress_bar: bool | None
    ) -> Any:
        if form.token_states:
            return form.convert_tokens(self._encode_tokens(cast(Texts, texts), options))
        return form.convert(self._encode_all(texts, options, show_progress_bar))

    def _encode_all(self, texts: Inputs, options: EncodeOptions, show_progress_bar: bool | None) -> Any:
        resolved = self._resolve(options)
        single, items, total = parse_inputs(texts, self.modalities, fuses=self.recipe.fuses)
        shown = _progress_is_useful(total) if show_progress_bar is None else show_progress_bar
        collector, unread = ResultCollector(total), UnreadInputs()
        meter = PictureMeter(items) if shown and "image" in self.modalities else None
        unit = "texts" if self.modalities == ("text",) else "inputs"
        with Progress(total, unit=unit, shown=shown) as progress:
            for part in self._windows(meter or items, resolved, unread):
                collector.add(part)
                tokens = int(part.tokens.sum()) if part.tokens is not None else 0
                progress.advance(len(part), tokens, meter.take(len(part)) if meter else 0.0)
        unread.log(self.name)
        return collector.result(lambda: self._empty_result(resolved), single)

    def encode_query(
        self, texts: Inputs, *, show_progress_bar: bool | None = None, **options: Unpack[EncodeRoleKeywords]
    ) -> Any:
        """Encode search queries, with the model's prompt for queries. Keywords are those of ``encode``."""
        parsed, form = read_encode_keywords("Encoder.encode_query", options, _SHOWN, role="query")
        return self._encode_as(form, texts, parsed, show_progress_bar)

    def encode_document(
        self, texts: Inputs, *, show_progress_bar: bool | None = None, **options: Unpack[EncodeRoleKeywords]
    ) -> Any:
        """Encode documents to be searched, with the model's prompt for documents. Keywords are those of ``encode``."""
        parsed, form = read_encode_keywords("Encoder.encode_document", options, _SHOWN, role="document")
        return self._encode_as(form, texts, parsed, show_progress_bar)

    def zero_shot(
        self,
        items: Inputs,
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        activation: str | None = None,
    ) -> Any:
        """Say which of some labels fits a picture or a sound best, without any training.

        Args:
            items: a picture or sound, or several. A text that looks like the name of a file is logged as a warning.
            labels: the names of the classes.
            templates: sentences that contain ``{}`` for the label; by default ``a photo of a {}.``, or for a model of
                sounds ``This is a sound of {}.``. The vectors of several are averaged: scores get more reliable.
            activation: ``softmax``, ``sigmoid`` or ``identity``; by default that of the model's training. Scores of
                CLIP add up to 1 over the labels; SigLIP judges each label alone, and only the order of small scores
                matters.

        Returns:
            A Prediction for each input, or one for a single input.

        Raises:
            InputError: the model does not compare texts with other inputs, or an argument is invalid.
        """
        spec = label_scores.zero_shot_spec(self.recipe)
        names, prompts = label_scores.label_prompts(labels, templates, self.modalities)
        single, listed, _ = parse_inputs(items, self.modalities, fuses=self.recipe.fuses)
        vectors = self.encode(label_scores.warn_of_file_names(listed))
        classes = label_scores.class_vectors(np.asarray(self.encode(prompts)), len(names))
        scores = label_scores.zero_shot_scores(np.asarray(vectors), classes, spec, activation)
        predictions = [Prediction.from_scores(names, row) for row in scores]
        return predictions[0] if single else predictions

    def encode_tokens(self, texts: Texts, **options: Unpack[EncodeKeywords]) -> MultiVectors:
        """Encode texts, and return the last hidden state of each token that the model reads.

        Special tokens and those of the prompt are among them. At the first call the model is compiled once more.

        Args:
            texts: as for ``encode``.
            options: keywords of ``encode`` that concern the input: prompt, role, task, truncate, max_length and others.

        Raises:
            InputError: an argument or input is invalid; nothing was encoded.
        """
        parsed = read_options("Encoder.encode_tokens", options)
        return self._encode_tokens(texts, parsed)

    def _encode_tokens(self, texts: Texts, options: EncodeOptions) -> MultiVectors:
        resolved = encode_options.resolve_for_tokens(options, self._model, self._defaults)
        self._model.add_token_states()
        single, items, _ = parse_inputs(texts)
        unread = UnreadInputs()
        parts = list(self._windows(items, resolved, unread)) or [self._empty_result(resolved)]
        unread.log(self.name)
        return cast(MultiVectors, postprocess.concatenate_results(parts, single))

    def encode_late(self, documents: Sequence[Sequence[str]], **options: Unpack[EncodeKeywords]) -> list[Vectors]:
        """Encode whole documents and pool each of their chunks: late chunking (Günther et al. 2024, arXiv:2409.04701).

        Each chunk's vector then depends on the text around it. Special tokens and prompt belong to no chunk.

        Args:
            documents: for each document its consecutive chunks, which join to the whole text.
            options: keywords of ``encode``, except ``outputs``.

        Returns:
            For each document Vectors [chunks, dim].

        Raises:
            InputTooLong: a document has more tokens than the model reads; the message says how many.
            InputError: a chunk contains no token, or the model gives no dense vectors.
        """
        resolved = self._resolve_late(read_options("Encoder.encode_late", options))
        documents = inputs.check_documents(documents)
        ticket, chunks = self._texts.prepare_late(self._model, documents, resolved, bulk=True)
        self.engine.submit(ticket, wait=True)
        return postprocess.chunk_vectors(resolved, ticket.result(), chunks)

    async def aencode_late(
        self,
        documents: Sequence[Sequence[str]],
        *,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        **options: Unpack[EncodeKeywords],
    ) -> list[Vectors]:
        """Run ``encode_late`` without blocking the event loop; bulk, deadline and max_tokens are those of ``aencode``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass before the result.
            TooLarge: the documents have more than ``max_tokens`` tokens.
        """
        limits = CallLimits(bulk, deadline, max_tokens)
        parsed = read_options("Encoder.aencode_late", options, _LIMITS)
        return (await self.run_encode_late(documents, parsed, limits)).result

    async def run_encode_late(
        self, documents: Sequence[Sequence[str]], options: EncodeOptions, limits: CallLimits = NO_LIMITS
    ) -> TimedResult[list[Vectors]]:
        """Run ``aencode_late`` with options as objects; the result comes with the seconds of each stage."""
        started, expires_at = time.monotonic(), limits.expires_at()
        resolved, documents = self._resolve_late(options), inputs.check_documents(documents)
        sizes = [sum(map(len, chunks)) + len(resolved.prompt) for chunks in documents]
        tokens = None
        if not runs_inline(self.tokenizer, sizes):
            self.engine.check_room()
            tokens = await tokenize_in_parts(
                lambda part: self._texts.tokenize_late(documents[part], resolved),
                self.tokenizer,
                sizes,
                limits,
                expires_at,
                lambda late_tokens: len(late_tokens[0]),
            )
        ticket, chunks = self._texts.prepare_late(
            self._model, documents, resolved, bulk=limits.bulk, expires_at=expires_at, tokens=tokens
        )
        self._observe("tokenise", started)
        limits.admit([ticket])
        rows = await self.engine.run(ticket)
        timings = {"tokenise": ticket.created - started, **ticket.seconds}
        started = time.monotonic()
        vectors = postprocess.chunk_vectors(resolved, rows, chunks)
        self._observe("finish", started)
        return TimedResult(vectors, timings)

    def stream(
        self,
        texts: Iterable[Any],
        *,
        window: int = LARGEST_WINDOW,
        steady: bool = False,
        unread: UnreadInputs | None = None,
        on_refused: OnRefused | None = None,
        **options: Unpack[EncodeCallKeywords],
    ) -> Iterator[Any]:
        """Encode any number of inputs in bounded memory; yield results of up to ``window`` inputs, in order.

        A bad input raises once the results of the windows before it are given: none of them is lost.

        Args:
            texts: inputs as in a list for ``encode``.
            window: maximum number of inputs of one result.
            steady: submit a window after the previous one is done: on an idle engine, bytes do not depend on timing.
            unread: counts the inputs that the model cannot read. ``encode`` warns of them, ``stream`` does not.
            on_refused: called with number and `InputError` of media that cannot be decoded; they get no vector.
            options: keywords of ``encode``.
        """
        parsed, form = read_encode_keywords("Encoder.stream", options, _STREAM, tokens=False)
        parts = self._windows(
            parse_inputs(texts, self.modalities, fuses=self.recipe.fuses)[1],
            self._resolve(parsed),
            unread or UnreadInputs(),
            max_size=window,
            steady=steady,
            ends_after_error=True,
            on_refused=on_refused,
        )
        return map(form.convert, parts) if form.as_tensor else parts

    def submit(
        self,
        inputs: Inputs,
        *,
        bulk: bool = False,
        deadline: float | None = None,
        **options: Unpack[EncodeKeywords],
    ) -> Ticket:
        """Queue inputs and return at once; ``Ticket.result()`` waits for the raw rows [n, dimensions].

        ``deadline`` is in seconds from now.

        Raises:
            Overloaded: the queue is full.
        """
        expires_at = CallLimits(deadline=deadline).expires_at()
        resolved = self._resolve(read_options("Encoder.submit", options, _LIMITS[:2]))
        items = list_inputs(inputs, self.modalities, fuses=self.recipe.fuses)[1]
        prepared = self._prepare(
            one_modality(items, self.recipe.modality), items, resolved, bulk=bulk, expires_at=expires_at
        )
        return self.engine.submit(prepared.ticket)

    async def aencode(
        self,
        texts: Inputs,
        *,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds: dict[str, float] | None = None,
        **options: Unpack[EncodeCallKeywords],
    ) -> Any:
        """Encode without blocking the event loop. If the task is cancelled, jobs that have not started are dropped.

        Args:
            texts: as for ``encode``.
            bulk: run at low priority, behind interactive calls.
            deadline: seconds from now within which the result is needed.
            max_tokens: maximum number of tokens of all inputs together.
            seconds: a dictionary that receives the seconds of each stage: tokenise, queue, run.
            options: keywords of ``encode``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass before the result.
            TooLarge: the inputs have more than ``max_tokens`` tokens.
        """
        parsed, form = read_encode_keywords("Encoder.aencode", options, (*_LIMITS, "seconds"), tokens=False)
        unread = UnreadInputs()
        run = await self.run_encode(texts, parsed, CallLimits(bulk, deadline, max_tokens), unread)
        unread.log(self.name)
        if seconds is not None:
            seconds.update(run.timings)
        return form.convert(run.result)

    async def run_encode(
        self, texts: Inputs, options: EncodeOptions, limits: CallLimits = NO_LIMITS, unread: UnreadInputs | None = None
    ) -> TimedResult[Result]:
        """Run ``aencode`` with options as objects, and return the seconds of each stage too; nothing warns."""
        started, expires_at = time.monotonic(), limits.expires_at()
        resolved = self._resolve(options)
        single, batch = list_inputs(texts, self.modalities, fuses=self.recipe.fuses)
        parts = await self._prepare_all(batch, resolved, limits, expires_at)
        self._observe("tokenise", started)
        limits.admit([part.ticket for part in parts])
        rows = await self._run_all(parts, resolved)
        # A ticket counts its waiting time from its creation; everything before that is preparation.
        timings = {"tokenise": parts[-1].ticket.created - started, **parts[-1].ticket.seconds}
        started = time.monotonic()
        several = len(parts) > 1
        results = [
            postprocess.finish(self.recipe, resolved, part_rows, part, single and not several)
            for part, part_rows in zip(parts, rows, strict=True)
        ]
        result = postprocess.concatenate_results(results, single) if several else results[0]
        self._observe("finish", started)
        if unread is not None:
            await self._count_all_unread(parts, resolved, unread)
        return TimedResult(result, timings)

    def tokenize(self, texts: Texts, **options: Unpack[EncodeKeywords]) -> list[Tokens]:
        """Return for each input the token ids that the model reads, and how many were dropped."""
        return self._texts.tokenize(
            cast("list[Text]", list_inputs(texts)[1]), self._resolve(read_options("Encoder.tokenize", options))
        )

    def prompt_of(self, **options: Unpack[EncodeKeywords]) -> str:
        """Return the prompt that ``encode`` puts before each input, for the same keywords."""
        return self._resolve(read_options("Encoder.prompt_of", options)).prompt


#: Keywords of ``Encoder`` besides those of ``LoadKeywords``.
OWN_KEYWORDS = ("force_truncate_dim", "query_map", "truncate_dim")
#: Keywords of calls besides the options, for messages.
_SHOWN, _LIMITS = ("show_progress_bar",), ("bulk", "deadline", "max_tokens")
_STREAM = ("on_refused", "steady", "unread", "window")


def _progress_is_useful(total: int | None) -> bool:
    return (total is None or total > 2 * LARGEST_WINDOW) and sys.stderr.isatty()

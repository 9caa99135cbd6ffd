"""Encoder: a loaded model as a Python object. It joins a recipe, a family, its heads, a backend and the engine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokens
from nearfield.engine.engine import Ticket
from nearfield.errors import InputError, TooLarge, nearest
from nearfield.heads import OutputRequest
from nearfield.inference import encode_options as wanted
from nearfield.inference import inputs, postprocess
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.inference.inputs import LARGEST_WINDOW, Text
from nearfield.inference.late_interaction import LateInteractionFormatter
from nearfield.inference.loaded_model import LoadedModel, OtherKind, until
from nearfield.inference.postprocess import Result
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.sparse_static import SparseStaticEmbedding
from nearfield.progress import Progress
from nearfield.recipe import ROLE_TASKS, ClassScores, EncodeTask, Multivector, Splade
from nearfield.vectors.dense import Vectors, similarity
from nearfield.vectors.outputs import MultiVectors, Outputs, SparseVectors

Array = np.ndarray[Any, np.dtype[Any]]
#: Requests below this many characters are tokenised where they are: a thread would cost more than it saves.
_INLINE_CHARACTERS = 8_192


@dataclass(frozen=True)
class Prepared:
    """Inputs on their way through the engine: what was read of each, and the ticket.

    Where inputs were cut into pieces, ``owners`` says which input each job is a piece of, and ``sizes`` how long it is.
    """

    tokens: list[Tokens]
    ticket: Ticket
    owners: Array | None = None
    sizes: tuple[int, ...] = ()


class Encoder(LoadedModel):
    """Turns text into vectors.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        truncate_dim: dimensions to keep when a call does not say.
        options: as for ``Loaded``: source, revision, precision, backend, threads, streams, max_length, kind, engine.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be had.
        ModelRefused: its files cannot be loaded exactly.
    """

    def __init__(self, model: str = "all-MiniLM-L6-v2", *, truncate_dim: int | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        self._truncate_dim = truncate_dim or self.recipe.truncate_dim
        wanted.resolve_dimensions(self.recipe, self._truncate_dim, force=False)
        spec = self.recipe.head("multivector")
        self._marker = LateInteractionFormatter(spec, self.tokenizer) if isinstance(spec, Multivector) else None
        sparse = self.recipe.head("sparse")
        self._lookup = (
            SparseStaticEmbedding(sparse.query_weights, self.tokenizer, int(self.recipe.config["vocab_size"]))
            if isinstance(sparse, Splade) and sparse.query_weights
            else None
        )
        #: Results that ``aencode`` need not compute again; shared between models, for one event loop.
        self.cache: ResultCache | None = None
        #: Called with a stage (tokenise, finish) of each asynchronous request and the seconds it took.
        self.observers: list[Callable[[str, float], None]] = []

    def require(self, output: str) -> None:
        """Raise InputError where the model does not give an output that the caller cannot do without."""
        wanted.resolve_outputs(self.recipe, output)

    def _check_kind(self) -> None:
        head = self.recipe.head("scores")
        if self.recipe.outputs[0] == "scores":
            raise OtherKind(
                f"{self.name} scores texts and gives no vectors: "
                "load it as nearfield.Reranker or nearfield.Classifier, or by nearfield.load.",
                len(head.labels) if isinstance(head, ClassScores) else 1,
            )

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def dimensions(self) -> int:
        """The size of a whole vector."""
        return self.recipe.dimensions

    @property
    def tasks(self) -> tuple[str, ...]:
        """What ``encode`` takes as a task: tasks of the model, and prompts by their names."""
        return tuple(sorted({*self.recipe.tasks, *self._model.adapters.named, *self.recipe.prompts}))

    @property
    def fingerprint(self) -> str:
        """The space of this encoder's default vectors."""
        return cast(Vectors, self._blank(self._wanted())).fingerprint

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, dimensions={self.dimensions}, max_length={self.max_length}, {self.precision})"

    # -- encoding ----------------------------------------------------------------------------------------------

    def encode(self, texts: Any, *, show_progress_bar: bool | None = None, **wanted: Any) -> Any:
        """Encode one text, a list of texts, or lists of token ids.

        Args:
            texts: a string, a sequence or iterable of strings, a list of token ids, or a list of such lists.
                An empty string is encoded as the model's special tokens alone; an empty list gives no vectors.
            show_progress_bar: True or False; None shows one on a terminal once the list is long.
            prompt_name: a prompt of the model, by name or task.
            prompt: a prompt as text, put before each input.
            role: ``query`` or ``document``: the model's own prompt for it.
            instruction: what the text is to be read for, in words, put where the model was trained to find it
                (E5-instruct, Qwen3, Instructor); a model that knows no such place gets it as it is, like ``prompt``.
            task: a task of the model by name: its prompt and, for jina-embeddings-v3, its adapter.
            outputs: kinds of output, of one pass: any of the model's own ``dense``, ``sparse`` and ``multivector``.
            adapter: the name of an adapter that was loaded (see ``load_adapter``).
            truncate_dim: dimensions to keep; rescaled to unit length where whole vectors have it.
            force_truncate_dim: cut even where the model was not trained for it.
            normalize_embeddings: True to scale to unit length; a model whose last module does so always does.
            precision: float32, float16, int8, uint8, binary or ubinary (see ``vectors.quantize``).
            ranges: calibrated ranges [2, dim] for int8 and uint8.
            truncate: ``report`` (cut the end, count it in ``Vectors.dropped``), ``error``, ``left``, ``right``, or
                ``chunk`` (encode an over-long text in pieces that end with sentences, and take their weighted mean).
            max_length: tokens to read of each input, where that is fewer than the model reads.

        Returns:
            Vectors; ``numpy.asarray`` of it is float32 [n, dim], or [dim] when ``texts`` was a single input. A model
            without a dense output gives SparseVectors or MultiVectors. With ``outputs``, Outputs of those kinds.

        Raises:
            InputError: a bad argument or input; nothing was encoded.
        """
        request = self._wanted(**wanted)
        single, items, total = inputs.parse_inputs(texts)
        shown = _on_terminal(total) if show_progress_bar is None else show_progress_bar
        with Progress(total, shown=shown) as progress:
            parts = []
            for part in self._windows(items, request):
                parts.append(part)
                progress.advance(len(part), int(part.tokens.sum()) if part.tokens is not None else 0)
        return postprocess.concatenate_results(parts or [self._blank(request)], single)

    def encode_query(self, texts: Any, **wanted: Any) -> Any:
        """Encode as search queries: the model's query prompt is applied."""
        return self.encode(texts, role="query", **wanted)

    def encode_document(self, texts: Any, **wanted: Any) -> Any:
        """Encode as documents to be found: the model's document (or passage) prompt is applied."""
        return self.encode(texts, role="document", **wanted)

    def encode_late(self, documents: Sequence[Sequence[str]], **wanted: Any) -> list[Vectors]:
        """Late chunking (Günther et al. 2024, arXiv:2409.04701): encode whole documents, and pool each chunk apart.

        ``documents`` are lists of consecutive chunks, which join to the whole text. Each chunk's vector then knows
        what stands around it. Special tokens and prompt belong to no chunk.

        Returns:
            For each document Vectors [chunks, dim].

        Raises:
            InputTooLong: a document has more tokens than the model reads; the message says how many.
            InputError: a chunk has no token of its own.
        """
        request = self._late(wanted)
        ticket, spans = self._prepare_late(documents, request, bulk=True, until=None)
        self.engine.submit(ticket, wait=True)
        return [self._chunks(row["dense"], part, request) for row, part in zip(ticket.result(), spans, strict=True)]

    async def aencode_late(
        self,
        documents: Sequence[Sequence[str]],
        *,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        **wanted: Any,
    ) -> list[Vectors]:
        """Do what ``encode_late`` does without blocking the event loop; the bounds are those of ``aencode``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass first.
            TooLarge: more than ``max_tokens``.
        """
        started, latest = time.perf_counter(), until(deadline)
        request = self._late(wanted)
        options: Any = {"bulk": bulk, "until": latest}
        if sum(len(chunk) for chunks in documents for chunk in chunks) <= _INLINE_CHARACTERS:
            ticket, spans = self._prepare_late(documents, request, **options)
        else:
            self.engine.check_room()
            ticket, spans = await asyncio.to_thread(self._prepare_late, documents, request, **options)
        self._tell("tokenise", started)
        _bound(ticket, max_tokens)
        rows = await self.engine.run(ticket)
        started = time.perf_counter()
        found = [self._chunks(row["dense"], part, request) for row, part in zip(rows, spans, strict=True)]
        self._tell("finish", started)
        return found

    def _late(self, asked: dict[str, Any]) -> ResolvedOptions:
        request = self._wanted(**{**asked, "outputs": None})
        if request.outputs != ("dense",):
            raise InputError(f"{self.name} gives no dense vectors, and late chunking pools these.", param="outputs")
        return request

    def _prepare_late(
        self, documents: Sequence[Sequence[str]], request: ResolvedOptions, *, bulk: bool, until: float | None
    ) -> tuple[Ticket, list[list[tuple[int, int]]]]:
        """Make a job of each document, and return the places of its chunks."""
        found = [inputs.chunk_token_spans(self.tokenizer, chunks, request.prompt) for chunks in documents]
        tokens = [self.tokenizer.from_ids(ids, truncate="error") for ids, _ in found]
        extras = [self._extra(request, spans=tuple(spans)) for _, spans in found]
        ids = [item.ids for item in tokens]
        return Ticket.of(self._model, ids, None, extras, bulk=bulk, deadline=until), [spans for _, spans in found]

    def _chunks(self, rows: Array, spans: Sequence[tuple[int, int]], request: ResolvedOptions) -> Vectors:
        counts = {"tokens": np.array([stop - start for start, stop in spans]), "dropped": np.zeros(len(spans), int)}
        return postprocess.dense(request, rows, counts)

    def stream(
        self, texts: Iterable[Text], *, window: int = LARGEST_WINDOW, steady: bool = False, **wanted: Any
    ) -> Iterator[Any]:
        """Encode any number of inputs in bounded memory: yields results of up to ``window`` inputs, in order.

        ``steady`` lets no window into the engine before the last one is done. Which texts share a batch is then no
        matter of time: on one machine, with nothing else in the engine, the same texts give the same bytes.
        """
        return self._windows(texts, self._wanted(**wanted), largest=window, steady=steady)

    def submit(
        self, inputs: Sequence[Text], *, bulk: bool = False, deadline: float | None = None, **wanted: Any
    ) -> Ticket:
        """Queue inputs and return at once; ``Ticket.result()`` waits for the raw rows [n, dimensions].

        ``deadline`` is in seconds from now.

        Raises:
            Overloaded: the queue is full.
        """
        return self.engine.submit(
            self._prepare(inputs, self._wanted(**wanted), bulk=bulk, until=until(deadline)).ticket
        )

    async def aencode(
        self,
        texts: Any,
        *,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds: dict[str, float] | None = None,
        **wanted: Any,
    ) -> Any:
        """Encode without blocking the event loop; cancelling the task drops what has not started.

        Args:
            texts: as for ``encode``.
            bulk: give way to other work.
            deadline: seconds from now within which it is to be done.
            max_tokens: most tokens that all inputs together may have.
            seconds: is given the seconds of each stage: tokenise, queue, run.
            wanted: as for ``encode``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass first.
            TooLarge: more than ``max_tokens``.
        """
        begun, started, latest = time.monotonic(), time.perf_counter(), until(deadline)
        request = self._wanted(**wanted)
        single, items, _ = inputs.parse_inputs(texts)
        batch = list(items)
        if sum(len(item) for item in batch if isinstance(item, Sized)) <= _INLINE_CHARACTERS:
            prepared = self._prepare(batch, request, bulk=bulk, until=latest)
        else:
            self.engine.check_room()
            prepared = await asyncio.to_thread(self._prepare, batch, request, bulk=bulk, until=latest)
        self._tell("tokenise", started)
        _bound(prepared.ticket, max_tokens)
        if self.cache is None:
            rows = await self.engine.run(prepared.ticket)
        else:
            rows = await self.cache.run(self.engine, prepared.ticket, f"{request.space} {self.precision}")
        if seconds is not None:
            # The ticket counts its wait from when it was made: up to there, and no further, the text was tokenised.
            seconds.update({"tokenise": prepared.ticket.created - begun, **prepared.ticket.seconds})
        started = time.perf_counter()
        result = self._finish(rows, prepared, request, single)
        self._tell("finish", started)
        return result

    def similarity(self, a: Any, b: Any) -> Array:
        """Compare results (or texts) by the model's own measure: float32 [len(a), len(b)].

        Raises:
            SpaceMismatch: the two sides come from different models, dimensions or precisions.
        """
        left, right = (part if isinstance(part, _COMPARABLE) else self.encode(part) for part in (a, b))
        if isinstance(left, (SparseVectors, MultiVectors)):
            return left.similarity(cast(Any, right))
        return similarity(cast(Vectors, left), cast(Vectors, right), self.recipe.similarity)

    def tokenize(self, texts: Any, **wanted: Any) -> list[Tokens]:
        """Return the token ids that the model would read, and how many were cut off."""
        _, items, _ = inputs.parse_inputs(texts)
        return self._tokens(list(items), self._wanted(**wanted))

    def prompt_of(self, **wanted: Any) -> str:
        """Return the prompt that ``encode`` would put before each input, given the same arguments."""
        return self._wanted(**wanted).prompt

    def _tell(self, stage: str, started: float) -> None:
        seconds = time.perf_counter() - started
        for observer in self.observers:
            observer(stage, seconds)

    # -- before the batch --------------------------------------------------------------------------------------

    def _wanted(
        self,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        role: str | None = None,
        instruction: str | None = None,
        task: str | None = None,
        outputs: str | Iterable[str] | None = None,
        adapter: str | None = None,
        truncate_dim: int | None = None,
        force_truncate_dim: bool = False,
        normalize_embeddings: bool | None = None,
        precision: str = "float32",
        ranges: Any = None,
        truncate: str = "report",
        max_length: int | None = None,
    ) -> ResolvedOptions:
        kinds = wanted.resolve_outputs(self.recipe, outputs)
        wanted.resolve_options(truncate, precision, kinds)
        if task is None and role is not None and {prompt_name, prompt, instruction, adapter} == {None}:
            task = self._role_task(role)
        if task is not None:
            prompt_name, prompt, adapter = self._task(task, prompt_name, prompt, adapter)
        text = wanted.resolve_prompt(self.recipe, prompt_name, prompt, role, instruction)
        if self._marker is not None and "multivector" in kinds:
            mark = self._marker.prompt(role)
            text = mark + text.removeprefix(mark)
        chosen = self.default_adapter if adapter is None else adapter
        self._model.adapter(chosen)
        scale = bool(normalize_embeddings) and not self.recipe.normalized
        cut_to = self._truncate_dim if truncate_dim is None else truncate_dim
        return ResolvedOptions(
            prompt=text,
            skip=self._model.skip(text),
            role=role,
            truncate=truncate,
            max_length=max_length,
            outputs=kinds,
            named=outputs is not None,
            adapter=chosen,
            dim=wanted.resolve_dimensions(self.recipe, cut_to, force_truncate_dim) if self.recipe.modules else 0,
            centre=self.recipe.centre,
            unit=self.recipe.normalized or scale,
            normalize=scale,
            precision=precision,
            ranges=ranges,
            space=self._model.space_of(chosen) + ("n" if scale else ""),
        )

    def _role_task(self, role: str) -> str | None:
        """Return the task that stands for a role: jina-embeddings-v3 knows no other queries and passages."""
        own = self.recipe.role_prompt(role) if role in ROLE_TASKS else None
        # An empty one says nothing: sentence-transformers writes such into every folder.
        if role not in ROLE_TASKS or (own is not None and self.recipe.prompts[own]):
            return None
        known = {*self.recipe.tasks, *self._model.adapters.named}
        return next((name for name in ROLE_TASKS[role] if name in known), None)

    def _task(
        self, task: str, name: str | None, text: str | None, adapter: str | None
    ) -> tuple[str | None, str | None, str | None]:
        """Resolve a task to prompt name, prompt and adapter; what is given beside it wins.

        Raises:
            InputError: the model has no such task or prompt.
        """
        known = self.recipe.tasks.get(task)
        if known is None and task in self._model.adapters.named:
            known = EncodeTask(self.recipe.prompts.get(task, ""), task)
        if known is None and task not in self.recipe.prompts:
            names = sorted({*self.recipe.tasks, *self.recipe.prompts})
            raise InputError(f"{self.name} has no task {task!r}. {nearest(task, names)}", param="task")
        if known is None:
            return (task if name is None and text is None else name), text, adapter
        return name, (known.prompt if text is None and name is None else text), adapter or known.adapter

    def _tokens(self, items: Sequence[Text], request: ResolvedOptions) -> list[Tokens]:
        """Tokenise strings and check token ids, in order."""
        policy = cast(Any, "right" if request.truncate in ("report", "chunk") else request.truncate)
        limit = self._marker.limit(request.role) if self._marks(request) and self._marker else None
        if request.max_length is not None:
            limit = min(request.max_length, limit or self.max_length)
        if all(isinstance(item, str) for item in items):
            texts = cast(Sequence[str], items)
            return self.tokenizer.encode(texts, prompt=request.prompt, truncate=policy, max_length=limit)
        return [self._one(index, item, request, policy, limit) for index, item in enumerate(items)]

    def _one(self, index: int, item: Any, request: ResolvedOptions, policy: Any, limit: int | None) -> Tokens:
        if isinstance(item, str):
            return self.tokenizer.encode([item], prompt=request.prompt, truncate=policy, max_length=limit)[0]
        if not isinstance(item, (list, tuple, np.ndarray)):
            raise InputError(f"Input {index} is {type(item).__name__}, not text or a list of token ids.", param="input")
        if request.prompt:
            raise InputError(
                f"Input {index} is token ids, before which the prompt {request.prompt!r} cannot be put. Send text.",
                param="input",
            )
        return self.tokenizer.from_ids(item, truncate=policy, max_length=limit)

    def _marks(self, request: ResolvedOptions) -> bool:
        return "multivector" in request.outputs and self._marker is not None

    def _prepare(self, items: Sequence[Text], request: ResolvedOptions, *, bulk: bool, until: float | None) -> Prepared:
        """Tokenise, mark, and make the jobs."""
        tokens = self._tokens(items, request)
        if self._lookup is not None and request.role == "query":
            answered = Ticket.of(self._model, [], bulk=bulk, deadline=until)
            answered.rows = self._lookup.rows(tokens)
            return Prepared(tokens, answered)
        owners: Array | None = None
        jobs, extras = tokens, self._extras(tokens, request)
        if request.truncate == "chunk" and any(item.dropped for item in tokens):
            tokens, jobs, owners = self._in_pieces(items, tokens, request)
            extras = self._extras(jobs, request)
        elif self._marks(request) and self._marker is not None:
            jobs, marks = self._marker.mark(tokens, request.role)
            extras = [self._extra(request, like=mark) for mark in marks]
        skips = [request.skip] * len(jobs) if request.skip else None
        options = {"bulk": bulk, "deadline": until}
        ticket = Ticket.of(self._model, [job.ids for job in jobs], skips, extras, **options)
        sizes = () if owners is None else tuple(len(job.ids) for job in jobs)
        return Prepared(tokens, ticket, owners, sizes)

    def _extras(self, tokens: Sequence[Tokens], request: ResolvedOptions) -> list[OutputRequest] | None:
        """What jobs want beyond the dense vector; None when all of them want that alone."""
        if request.outputs == ("dense",) and not request.named and request.adapter is None:
            return None
        return [self._extra(request)] * len(tokens)

    def _extra(
        self, request: ResolvedOptions, like: OutputRequest | None = None, spans: tuple[tuple[int, int], ...] = ()
    ) -> OutputRequest:
        marked = like or OutputRequest()
        number = self._model.adapter(request.adapter)
        return OutputRequest(request.outputs, 0, spans, marked.kept, marked.unattended, number)

    def _in_pieces(
        self, items: Sequence[Text], tokens: list[Tokens], request: ResolvedOptions
    ) -> tuple[list[Tokens], list[Tokens], Array]:
        """Cut what is too long into pieces; return what is read of each input, the pieces, and whose they are."""
        special = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        most = min(self.max_length, request.max_length or self.max_length)
        room = most - max(special, len(self.tokenizer.encode([""], prompt=request.prompt)[0].ids)) - 1
        if room < 1:
            raise InputError("The prompt leaves no room for a text beside it.", param="prompt")
        read, jobs, owners = [], [], []
        for index, (item, whole) in enumerate(zip(items, tokens, strict=True)):
            parts = [whole]
            if whole.dropped and isinstance(item, str):
                parts = self.tokenizer.encode(inputs.split_long_text(item, self.tokenizer, room), prompt=request.prompt)
            jobs += parts
            owners += [index] * len(parts)
            read.append(Tokens([number for part in parts for number in part.ids], sum(part.dropped for part in parts)))
        return read, jobs, np.asarray(owners)

    def _windows(
        self, items: Iterable[Text], request: ResolvedOptions, largest: int = LARGEST_WINDOW, steady: bool = False
    ) -> Iterator[Result]:
        """Tokenise ahead of the lanes, two windows at most, and yield results in order."""
        pending: deque[Prepared] = deque()
        try:
            for window in inputs.windows(items, largest):
                prepared = self._prepare(window, request, bulk=True, until=None)
                if steady and pending:
                    pending[-1].ticket.result()
                self.engine.submit(prepared.ticket, wait=True)
                pending.append(prepared)
                if len(pending) > (1 if steady else 2):
                    yield self._collect(pending.popleft(), request)
            while pending:
                yield self._collect(pending.popleft(), request)
        finally:
            for prepared in pending:
                self.engine.cancel(prepared.ticket)

    # -- after the batch ---------------------------------------------------------------------------------------

    def _collect(self, prepared: Prepared, request: ResolvedOptions) -> Result:
        return self._finish(prepared.ticket.result(), prepared, request, single=False)

    def _finish(self, rows: Any, prepared: Prepared, request: ResolvedOptions, single: bool) -> Result:
        if prepared.owners is not None:
            plain = rows if isinstance(rows, np.ndarray) else np.stack([row["dense"] for row in rows])
            count, unit = len(prepared.tokens), self.recipe.normalized
            rows = postprocess.combine(plain, prepared.sizes, prepared.owners, count, unit)
        return postprocess.build_result(self.recipe, request, rows, prepared.tokens, single)

    def _blank(self, request: ResolvedOptions) -> Result:
        """Return no vectors, of the right shape, type and space."""
        return postprocess.build_result(self.recipe, request, [], [], single=False)


_COMPARABLE = (Vectors, SparseVectors, MultiVectors, Outputs)


def _bound(ticket: Ticket, most: int | None) -> None:
    if most is None:
        return
    tokens = sum(len(job.ids) for job in ticket.jobs)
    if tokens > most:
        raise TooLarge(
            f"The inputs have {tokens} tokens, where one request may have {most}. Send them in parts.", param="input"
        )


def _on_terminal(total: int | None) -> bool:
    return (total is None or total > 2 * LARGEST_WINDOW) and sys.stderr.isatty()

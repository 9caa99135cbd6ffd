"""Encoder: a loaded model as a Python object. It joins a recipe, a family, its heads, a backend and the engine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np

from nearfield import catalog, hub
from nearfield.checkpoint import folder
from nearfield.checkpoint.tokenizer import Tokenizer, Tokens
from nearfield.engine import Engine, Ticket, default_engine
from nearfield.errors import InputError, TooLarge, nearest
from nearfield.model import Model
from nearfield.progress import Progress
from nearfield.recipe import Recipe
from nearfield.settings import cache_dir
from nearfield.vectors import PRECISIONS, Vectors, cut, fingerprint, normalize, quantize, similarity

Array = np.ndarray[Any, np.dtype[Any]]
Text = str | Sequence[int]

TRUNCATE = ("report", "error", "left", "right")
#: Texts in the first window of a long job and in the largest: the first keeps lanes from waiting for the tokenizer.
_FIRST_WINDOW, _LARGEST_WINDOW = 128, 4096
#: Characters at which a window closes, whatever its count, so that memory stays bounded.
_WINDOW_CHARACTERS = 4_000_000
#: Requests below this many characters are tokenised where they are: a thread would cost more than it saves.
_INLINE_CHARACTERS = 8_192


@dataclass(frozen=True)
class Wanted:
    """What a caller asked for, resolved and checked: everything before the batch, and everything after it."""

    prompt: str = ""
    skip: int = 0
    truncate: str = "report"
    dim: int = 0
    unit: bool = False
    normalize: bool = False
    precision: str = "float32"
    ranges: Any = None
    space: str = ""


class Encoder:
    """Turns text into vectors.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        source: ``folder``, ``cache``, ``hub`` or ``index``, to look nowhere else.
        revision: commit, tag or branch on the Hub; the catalogue's pinned one when left out.
        precision: ``auto`` (bf16 matrix units where the CPU has them) or ``float32``.
        backend: ``openvino`` or ``reference`` (plain numpy, slow).
        threads: cores to use, all that this process may use when left out.
        streams: batches that run at once.
        max_length: tokens read of each input, at most what the model allows.
        truncate_dim: dimensions to keep when a call does not say.
        engine: the engine to run on; by default all models of the process share one.
        compile_cache: whether compiled graphs are kept on disk for the next start.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be had.
        ModelRefused: its files cannot be loaded exactly.
    """

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        *,
        source: str | None = None,
        revision: str | None = None,
        precision: str = "auto",
        backend: str = "openvino",
        threads: int | None = None,
        streams: int | None = None,
        max_length: int | None = None,
        truncate_dim: int | None = None,
        engine: Engine | None = None,
        compile_cache: bool = True,
        progress: bool = False,
    ) -> None:
        started = time.perf_counter()
        entry = catalog.find(str(model))
        located = hub.locate(
            str(model), pin=entry.pin if entry else None, source=source, revision=revision, progress=progress
        )
        name = entry.id if entry else located.name
        self.recipe: Recipe = folder.read(located.folder, name=name, revision=located.revision, entry=entry)
        cache = cache_dir() / "compiled" if compile_cache else None
        self._model = Model(self.recipe, precision, backend, threads, streams, max_length, cache)
        self._owns_engine = engine is None and (threads is not None or streams is not None)
        self.engine = engine or (Engine(self._model.cpu.streams) if self._owns_engine else default_engine())
        self._truncate_dim = truncate_dim or self.recipe.truncate_dim
        self._check_dim(self._truncate_dim, force=False)
        self.load_seconds = time.perf_counter() - started
        #: Called with a stage (tokenise, finish) of each asynchronous request and the seconds it took.
        self.observers: list[Callable[[str, float], None]] = []

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's full id, or its folder's name."""
        return self.recipe.name

    @property
    def dimensions(self) -> int:
        """The size of a whole vector."""
        return self.recipe.dimensions

    @property
    def max_length(self) -> int:
        """Tokens read of each input, special tokens and prompt included."""
        return self.tokenizer.max_length

    @property
    def precision(self) -> str:
        """What the matrix units use: ``bf16`` or ``float32``."""
        return self._model.precision

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def fingerprint(self) -> str:
        """The space of this encoder's default vectors."""
        return self._blank(self._wanted()).fingerprint

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, dimensions={self.dimensions}, max_length={self.max_length}, {self.precision})"

    # -- encoding ----------------------------------------------------------------------------------------------

    def encode(self, texts: Any, *, show_progress_bar: bool | None = None, **wanted: Any) -> Vectors:
        """Encode one text, a list of texts, or lists of token ids.

        Args:
            texts: a string, a sequence or iterable of strings, a list of token ids, or a list of such lists.
                An empty string is encoded as the model's special tokens alone; an empty list gives no vectors.
            show_progress_bar: True or False; None shows one on a terminal once the list is long.
            prompt_name: a prompt of the model, by name or task.
            prompt: a prompt as text, put before each input.
            role: ``query`` or ``document``: the model's own prompt for it.
            truncate_dim: dimensions to keep; rescaled to unit length where whole vectors have it.
            force_truncate_dim: cut even where the model was not trained for it.
            normalize_embeddings: True to scale to unit length; a model whose last module does so always does.
            precision: float32, float16, int8, uint8, binary or ubinary (see ``vectors.quantize``).
            ranges: calibrated ranges [2, dim] for int8 and uint8.
            truncate: ``report`` (cut the end, count it in ``Vectors.dropped``), ``error``, ``left`` or ``right``.

        Returns:
            Vectors; ``numpy.asarray`` of it is float32 [n, dim], or [dim] when ``texts`` was a single input.

        Raises:
            InputError: a bad argument or input; nothing was encoded.
        """
        request = self._wanted(**wanted)
        single, items, total = _inputs(texts)
        shown = _on_terminal(total) if show_progress_bar is None else show_progress_bar
        with Progress(total, shown=shown) as progress:
            parts = []
            for part in self._windows(items, request):
                parts.append(part)
                progress.advance(len(part), int(part.tokens.sum()) if part.tokens is not None else 0)
        return _join(parts or [self._blank(request)], single)

    def encode_query(self, texts: Any, **wanted: Any) -> Vectors:
        """Encode as search queries: the model's query prompt is applied."""
        return self.encode(texts, role="query", **wanted)

    def encode_document(self, texts: Any, **wanted: Any) -> Vectors:
        """Encode as documents to be found: the model's document (or passage) prompt is applied."""
        return self.encode(texts, role="document", **wanted)

    def stream(self, texts: Iterable[Text], *, window: int = _LARGEST_WINDOW, **wanted: Any) -> Iterator[Vectors]:
        """Encode any number of inputs in bounded memory: yields ``Vectors`` of up to ``window`` inputs, in order."""
        return self._windows(texts, self._wanted(**wanted), largest=window)

    def submit(
        self, inputs: Sequence[Text], *, bulk: bool = False, deadline: float | None = None, **wanted: Any
    ) -> Ticket:
        """Queue inputs and return at once; ``Ticket.result()`` waits for the raw rows [n, dimensions].

        ``deadline`` is in seconds from now.

        Raises:
            Overloaded: the queue is full.
        """
        _, ticket = self._ticket(inputs, self._wanted(**wanted), bulk=bulk, deadline=deadline)
        return self.engine.submit(ticket)

    async def aencode(
        self,
        inputs: Any,
        *,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        **wanted: Any,
    ) -> Vectors:
        """Encode without blocking the event loop; cancelling the task drops what has not started.

        Args:
            inputs: as for ``encode``.
            bulk: give way to other work.
            deadline: seconds from now within which it is to be done.
            max_tokens: most tokens that all inputs together may have.
            wanted: as for ``encode``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass first.
            TooLarge: more than ``max_tokens``.
        """
        started = time.perf_counter()
        request = self._wanted(**wanted)
        single, items, _ = _inputs(inputs)
        batch = list(items)
        if sum(len(item) for item in batch if isinstance(item, Sized)) <= _INLINE_CHARACTERS:
            tokens, ticket = self._ticket(batch, request, bulk=bulk, deadline=deadline)
        else:
            tokens, ticket = await asyncio.to_thread(self._ticket, batch, request, bulk=bulk, deadline=deadline)
        self._tell("tokenise", started)
        _bound(ticket, max_tokens)
        rows = await self.engine.run(ticket)
        started = time.perf_counter()
        vectors = self._finish(rows, tokens, request, single)
        self._tell("finish", started)
        return vectors

    def similarity(self, a: Any, b: Any) -> Array:
        """Compare vectors (or texts) by the model's own measure: float32 [len(a), len(b)].

        Raises:
            SpaceMismatch: the two sides come from different models, dimensions or precisions.
        """
        left, right = (part if isinstance(part, Vectors) else self.encode(part) for part in (a, b))
        return similarity(left, right, self.recipe.similarity)

    def tokenize(self, texts: Any, **wanted: Any) -> list[Tokens]:
        """Return the token ids that the model would read, and how many were cut off."""
        _, items, _ = _inputs(texts)
        return self._tokens(list(items), self._wanted(**wanted))

    def close(self, *, drain: bool = True) -> None:
        """Unload: finish accepted work unless ``drain`` is False, then let go of the memory."""
        if self._owns_engine:
            self.engine.close(drain=drain)
        self.engine.forget(self._model)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        truncate_dim: int | None = None,
        force_truncate_dim: bool = False,
        normalize_embeddings: bool | None = None,
        precision: str = "float32",
        ranges: Any = None,
        truncate: str = "report",
    ) -> Wanted:
        if truncate not in TRUNCATE:
            raise InputError(f"Unknown truncate {truncate!r}. {nearest(truncate, TRUNCATE)}", param="truncate")
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
        text = self._prompt(prompt_name, prompt, role)
        scale = bool(normalize_embeddings) and not self.recipe.normalized
        return Wanted(
            prompt=text,
            skip=self._model.skip(text),
            truncate=truncate,
            dim=self._check_dim(
                truncate_dim or self._truncate_dim if truncate_dim is None else truncate_dim, force_truncate_dim
            ),
            unit=self.recipe.normalized or scale,
            normalize=scale,
            precision=precision,
            ranges=ranges,
            space=self._model.space + ("n" if scale else ""),
        )

    def _prompt(self, name: str | None, text: str | None, role: str | None) -> str:
        """Resolve what goes before the text: given text, else a named prompt, else the role's, else the default."""
        if text is not None and name is not None:
            raise InputError("Give prompt or prompt_name, not both.", param="prompt")
        if text is not None:
            return text
        if role is not None and role not in ("query", "document"):
            raise InputError(f"Unknown role {role!r}. {nearest(role, ('query', 'document'))}", param="role")
        prompts = self.recipe.prompts
        chosen = name or (self.recipe.role_prompt(role) if role else self.recipe.default_prompt_name)
        if chosen is None:
            return ""
        if chosen not in prompts:
            raise InputError(f"{self.name} has no prompt {chosen!r}. {nearest(chosen, prompts)}", param="prompt_name")
        return prompts[chosen]

    def _check_dim(self, dim: int | None, force: bool) -> int:
        """Return the dimensions to keep.

        Raises:
            InputError: not between 1 and the whole, or not what the model was trained for.
        """
        whole = self.recipe.dimensions
        if dim is None or dim == whole:
            return whole
        if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or not 1 <= dim < whole:
            raise InputError(
                f"dimensions must be an integer from 1 to {whole} for {self.name}, not {dim!r}.", param="dimensions"
            )
        trained = self.recipe.matryoshka
        if not force and not (trained and dim >= min(trained)):
            known = f"It was trained for {', '.join(map(str, sorted(trained)))}." if trained else ""
            raise InputError(
                f"{self.name} was not trained to be cut to {dim} dimensions: the vectors would lose quality without "
                f"notice. {known} Leave dimensions out, or force it (force_truncate_dim=True).",
                param="dimensions",
            )
        return int(dim)

    def _tokens(self, items: Sequence[Text], request: Wanted) -> list[Tokens]:
        """Tokenise strings and check token ids, in order."""
        policy = cast(Any, "right" if request.truncate == "report" else request.truncate)
        if all(isinstance(item, str) for item in items):
            return self.tokenizer.encode(cast(Sequence[str], items), prompt=request.prompt, truncate=policy)
        return [self._one(index, item, request, policy) for index, item in enumerate(items)]

    def _one(self, index: int, item: Any, request: Wanted, policy: Any) -> Tokens:
        if isinstance(item, str):
            return self.tokenizer.encode([item], prompt=request.prompt, truncate=policy)[0]
        if not isinstance(item, (list, tuple, np.ndarray)):
            raise InputError(f"Input {index} is {type(item).__name__}, not text or a list of token ids.", param="input")
        if request.prompt:
            raise InputError(
                f"Input {index} is token ids, before which the prompt {request.prompt!r} cannot be put. Send text.",
                param="input",
            )
        return self.tokenizer.from_ids(item, truncate=policy)

    def _ticket(
        self, inputs: Sequence[Text], request: Wanted, *, bulk: bool, deadline: float | None
    ) -> tuple[list[Tokens], Ticket]:
        tokens = self._tokens(inputs, request)
        until = None if deadline is None else time.monotonic() + deadline
        skips = [request.skip] * len(tokens) if request.skip else None
        return tokens, Ticket.of(self._model, [item.ids for item in tokens], skips, bulk=bulk, deadline=until)

    def _windows(self, items: Iterable[Text], request: Wanted, largest: int = _LARGEST_WINDOW) -> Iterator[Vectors]:
        """Tokenise ahead of the lanes, two windows at most, and yield results in order."""
        pending: deque[tuple[list[Tokens], Ticket]] = deque()
        try:
            for window in _cut(items, largest):
                tokens, ticket = self._ticket(window, request, bulk=True, deadline=None)
                self.engine.submit(ticket, wait=True)
                pending.append((tokens, ticket))
                if len(pending) > 2:
                    yield self._collect(*pending.popleft(), request)
            while pending:
                yield self._collect(*pending.popleft(), request)
        finally:
            for _, ticket in pending:
                self.engine.cancel(ticket)

    # -- after the batch ---------------------------------------------------------------------------------------

    def _collect(self, tokens: list[Tokens], ticket: Ticket, request: Wanted) -> Vectors:
        return self._finish(ticket.result(), tokens, request, single=False)

    def _finish(self, rows: Array, tokens: list[Tokens], request: Wanted, single: bool) -> Vectors:
        data = normalize(rows) if request.normalize else rows
        if request.dim < data.shape[1]:
            data = cut(data, request.dim, renormalize=request.unit)
        vectors = Vectors(
            data,
            fingerprint(request.space, request.dim, "float32"),
            request.dim,
            tokens=np.fromiter((len(item.ids) for item in tokens), np.int64, len(tokens)),
            dropped=np.fromiter((item.dropped for item in tokens), np.int64, len(tokens)),
            single=single,
        )
        if request.precision == "float32" and request.ranges is None:
            return vectors
        return quantize(vectors, request.precision, request.ranges, unit=request.unit)

    def _blank(self, request: Wanted) -> Vectors:
        """Return no vectors, of the right shape, type and space."""
        return self._finish(np.zeros((0, self.recipe.dimensions), np.float32), [], request, single=False)


def _bound(ticket: Ticket, most: int | None) -> None:
    if most is None:
        return
    tokens = sum(len(job.ids) for job in ticket.jobs)
    if tokens > most:
        raise TooLarge(
            f"The inputs have {tokens} tokens, where one request may have {most}. Send them in parts.", param="input"
        )


def _inputs(texts: Any) -> tuple[bool, Iterable[Any], int | None]:
    """Return whether it is one input, the inputs, and their number where known."""
    if isinstance(texts, str):
        return True, [texts], 1
    if isinstance(texts, (bytes, dict)) or not isinstance(texts, Iterable):
        raise InputError(f"Give a text, a list of texts or token ids, not {type(texts).__name__}.", param="input")
    if not isinstance(texts, Sequence) and not isinstance(texts, np.ndarray):
        return False, texts, None
    if len(texts) and all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in texts):
        return True, [list(texts)], 1
    return False, texts, len(texts)


def _cut(items: Iterable[Text], largest: int) -> Iterator[list[Text]]:
    """Cut into windows that grow from small to ``largest``, each bounded in characters too."""
    if largest < 1:
        raise InputError(f"window must be at least 1, not {largest}.", param="window")
    size, stream = min(_FIRST_WINDOW, largest), iter(items)
    while window := list(_until(islice(stream, size), _WINDOW_CHARACTERS)):
        yield window
        size = min(size * 2, largest)


def _until(items: Iterator[Text], characters: int) -> Iterator[Text]:
    for item in items:
        yield item
        characters -= len(item) if isinstance(item, (str, list, tuple, np.ndarray)) else 0
        if characters <= 0:
            return


def _join(parts: list[Vectors], single: bool) -> Vectors:
    if len(parts) == 1 and not single:
        return parts[0]
    first = parts[0]
    columns = [
        np.concatenate([cast(Array, getattr(part, name)) for part in parts]) for name in ("data", "tokens", "dropped")
    ]
    return Vectors(
        columns[0],
        first.fingerprint,
        first.dim,
        first.precision,
        tokens=columns[1],
        dropped=columns[2],
        ranges=first.ranges,
        clipped=sum(part.clipped for part in parts),
        single=single,
    )


def _on_terminal(total: int | None) -> bool:
    return (total is None or total > 2 * _LARGEST_WINDOW) and sys.stderr.isatty()

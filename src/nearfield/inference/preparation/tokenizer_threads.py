"""Tokenisation beside the event loop: in threads that do nothing else, part by part, until the request's deadline.

Owners take turns: between two parts of a request other requests have their turn. A request whose client has left, or
whose deadline has passed, is stopped after the part that runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from nearfield.checkpoint.tokenizer import long_texts
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.inference.calls.limits import INLINE_CHARACTERS, CallLimits
from nearfield.inference.preparation.worker_threads import WorkerThreads

#: Characters and inputs of one part: some 0.2 s of a core.
_PART_CHARACTERS, _PART_INPUTS = 2**18, 1024
#: Characters that cost as much to tokenise as a token costs a small model.
_CHARACTERS_PER_TOKEN = 64
#: Threads for tokenizers whose time is not bounded. Each waits for a process; a model has one.
_SLOW_THREADS = 4

ResultT = TypeVar("ResultT")


_THREADS = WorkerThreads(max(2, os.cpu_count() or 1), "nearfield-tokenize")
_SLOW = WorkerThreads(_SLOW_THREADS, "nearfield-tokenize-slow")


def runs_inline(tokenizer: Tokenizer, sizes: Sequence[int]) -> bool:
    """Return whether inputs of these sizes, in characters, may be tokenised on the event loop."""
    return tokenizer.is_bounded and sum(sizes) <= INLINE_CHARACTERS


async def run_in_thread(function: Callable[[], ResultT], tokenizer: Tokenizer, expires_at: float | None) -> ResultT:
    """Run a function in a thread for tokenisation.

    Raises:
        DeadlineExceeded: ``expires_at``, a time of ``time.monotonic``, passed first. The thread ends by itself.
    """
    threads = _THREADS if tokenizer.is_bounded else _SLOW
    return await threads.run_until(function, expires_at, "tokenised")


async def tokenize_in_parts(
    tokenize: Callable[[slice], list[ResultT]],
    tokenizer: Tokenizer,
    sizes: Sequence[int],
    limits: CallLimits,
    expires_at: float | None,
    count_of: Callable[[ResultT], int],
) -> list[ResultT]:
    """Return the tokens of all inputs: ``tokenize`` is called for one part of them after another.

    Args:
        tokenize: tokenises the inputs of a slice.
        tokenizer: the model's tokenizer.
        sizes: the characters of each input.
        limits: the limits of the call; it ends as soon as there are too many tokens.
        expires_at: the call's deadline, a time of ``time.monotonic``.
        count_of: the number of tokens of a result.

    Raises:
        TooLarge: there are more tokens than the limits allow.
        RateLimited: the key has used up its tokens.
        DeadlineExceeded: the deadline passed first.
    """
    results: list[ResultT] = []
    count = 0
    for part in _parts(sizes):
        tokens = await run_in_thread(partial(tokenize, part), tokenizer, expires_at)
        results += tokens
        counts = list(map(count_of, tokens))
        count += sum(counts)
        # A text is charged its tokens when they are queued, and now what reading it cost beyond that.
        pairs = zip(sizes[part], counts, strict=False)
        long = (pair for pair in pairs if pair[0] > _CHARACTERS_PER_TOKEN * pair[1])
        limits.charge_reading(sum(_excess(size, count, tokenizer.max_length) for size, count in long))
        if part.stop < len(sizes):
            limits.check_count(count, complete=False)
    return results


def _excess(characters: int, count: int, limit: int) -> int:
    """Return how many tokens more than ``count`` reading a text of some characters has cost."""
    return max(0, long_texts.characters_read(characters, count, limit) // _CHARACTERS_PER_TOKEN - count)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    start, characters = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (characters + size > _PART_CHARACTERS or index - start >= _PART_INPUTS):
            yield slice(start, index)
            start, characters = index, 0
        characters += size
    if start < len(sizes):
        yield slice(start, len(sizes))

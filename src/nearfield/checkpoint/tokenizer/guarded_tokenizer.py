"""The `tokenizers` object of a model, guarded: what fails or takes too long is the error of one text.

A panic of the library is a ``BaseException``, which no ``except Exception`` catches: it is caught here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tokenizers

from nearfield.checkpoint.tokenizer.regex_patterns import slow_part
from nearfield.checkpoint.tokenizer.tokenizer_process import TextFailedError, TokenizerProcess
from nearfield.errors import InputError


class UntokenizableError(InputError):
    """The tokenizer fails on a text, the one at ``index``; ``reason`` says how."""

    def __init__(self, index: int, reason: str, which: str | None = None) -> None:
        super().__init__(
            f"{which or f'input {index}'} cannot be tokenised: {reason}; change or shorten it", param="input"
        )
        self.index, self.reason = index, reason


class GuardedTokenizer:
    """A ``tokenizers.Tokenizer``; what is not defined here is its own.

    A tokenizer whose patterns may backtrack runs in a process that is killed after some seconds.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        #: The part of the tokenizer for which it runs in a process; None: it runs in this one.
        self.slow_part = slow_part(tokenizer)
        self._process = None if self.slow_part is None else TokenizerProcess(tokenizer)

    def __getattr__(self, name: str) -> Any:
        if name == "_tokenizer":  # pickle looks for methods before the attributes are there
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def encode(self, text: str, pair: str | None = None, *, add_special_tokens: bool = True) -> Any:
        """Tokenise one text, or a pair.

        Raises:
            UntokenizableError: the library fails on it.
        """
        if self._process is not None and pair is None:
            return self._in_process([text], add_special_tokens, whole=True)[0]
        return guarded(lambda: self._tokenizer.encode(text, pair, add_special_tokens=add_special_tokens))

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> Sequence[Any]:
        """Tokenise texts. Raises as ``encode`` does, with the index of the text."""
        if self._process is not None:
            return self._in_process(texts, add_special_tokens, whole=True)
        return self._batch(self._tokenizer.encode_batch, texts, add_special_tokens)

    def encode_batch_fast(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> Sequence[Any]:
        """Tokenise texts without offsets. Raises as ``encode`` does, with the index of the text."""
        if self._process is not None:
            return self._in_process(texts, add_special_tokens, whole=False)
        encode = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)
        return self._batch(encode, texts, add_special_tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids. Raises as ``encode`` does."""
        if self._process is None:
            return str(guarded(lambda: self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)))
        try:
            return self._process.decode(ids, skip_special_tokens=skip_special_tokens)
        except TextFailedError as error:
            raise UntokenizableError(error.index, error.reason) from None

    def _in_process(self, texts: Sequence[str], special: bool, *, whole: bool) -> Sequence[Any]:
        assert self._process is not None
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"a text must be str, not {type(text).__name__}")
            if not text.isascii():
                check_unicode(text)
        try:
            return self._process.encode(texts, add_special_tokens=special, whole=whole)
        except TextFailedError as error:
            raise UntokenizableError(error.index, error.reason) from None

    def _batch(self, encode: Callable[..., Any], texts: Sequence[str], special: bool) -> Sequence[Any]:
        try:
            return encode(texts, add_special_tokens=special)
        except BaseException as error:
            if not is_failure(error):
                raise
        # One text after another, to find the one that fails. The library has dropped the results of the others.
        results = []
        for index, text in enumerate(texts):
            try:
                results += encode([text], add_special_tokens=special)
            except BaseException as error:  # noqa: BLE001 - raised again unless the library failed
                raise_as_text_error(error, index)
        return results


def guarded(call: Callable[[], Any]) -> Any:
    """Return what a call of the library returns; its failure is the error of input 0."""
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - raised again unless the library failed
        raise_as_text_error(error, 0)


def raise_as_text_error(error: BaseException, index: int) -> NoReturn:
    """Raise UntokenizableError for a failure of the library; re-raise other errors."""
    if is_failure(error):
        raise UntokenizableError(index, f"the tokenizer fails on it ({error})") from None
    raise error


def is_failure(error: BaseException) -> bool:
    """Return whether the library failed: by an Exception or a panic, but not by TypeError (input that is no text)."""
    panic = type(error).__name__ == "PanicException"
    return panic or (isinstance(error, Exception) and not isinstance(error, (TypeError, InputError)))


def check_unicode(text: str) -> None:
    """Raise TypeError for a lone surrogate, as the library does."""
    place = find_lone_surrogate(text)
    if place is not None:
        raise TypeError(f"character {place} is a lone surrogate")


def find_lone_surrogate(text: str) -> int | None:
    """Return the position of the first character of a text that is no Unicode, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def surrogate_error(which: str, text: str) -> InputError:
    """Return the error for a text with a lone surrogate; ``which`` names the input."""
    place = find_lone_surrogate(text) or 0
    return InputError(
        f"{which} is not Unicode: character {place} is a lone surrogate, {text[place]!r}; repair it where the text was "
        "decoded",
        param="input",
    )

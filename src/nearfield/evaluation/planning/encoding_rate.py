"""The speed of a machine, stated in texts or in tokens a second, or measured."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.amount_checks import check_positive
from nearfield.units import format_amount

#: A stated rate of fewer tokens a second may be one of texts a second. Two cores of a CPU embed 5,800 tokens/s with a
#: model of 109 million parameters (``benchmarks/README.md``), so that such a rate is possible, but worth a question.
SLOW_TOKENS = 10_000
#: No published rate of one worker comes near this many tokens a second: 1.6 million on an H200 (arXiv:2507.11830).
FAST_TOKENS = 3_000_000


@dataclass(frozen=True)
class EncodingRate:
    """What one worker encodes in a second.

    Args:
        per_second: Texts or tokens.
        unit: ``texts`` or ``tokens``.
        tokens_per_text: Mean tokens of a text, special tokens included; None: not known.
        measured: Whether it was measured on this machine; otherwise it was stated.

    Raises:
        InputError: a number is not above 0.
    """

    per_second: float
    unit: str
    tokens_per_text: float | None = None
    measured: bool = False

    def __post_init__(self) -> None:
        check_positive(f"{self.unit} per second", self.per_second)
        if self.tokens_per_text is not None:
            check_positive("tokens per text", self.tokens_per_text)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second; None if only texts a second are known, and not how long a text is."""
        if self.unit == "tokens":
            return self.per_second
        return None if self.tokens_per_text is None else self.per_second * self.tokens_per_text

    @property
    def texts_per_second(self) -> float | None:
        """Texts a second; None if only tokens a second are known, and not how long a text is."""
        if self.unit == "texts":
            return self.per_second
        return None if self.tokens_per_text is None else self.per_second / self.tokens_per_text

    @property
    def warning(self) -> str | None:
        """A question, if the rate looks as if texts were meant as tokens, or the reverse."""
        tokens = None if self.measured else self.tokens_per_second
        if self.unit == "tokens" and tokens is not None and tokens < SLOW_TOKENS:
            return _warn_of_texts(self.per_second, self.texts_per_second)
        if self.unit == "texts" and tokens is not None and tokens > FAST_TOKENS:
            return (
                f"{format_amount(self.per_second)} texts/s of {format_amount(tokens / self.per_second)} tokens are "
                f"{format_amount(tokens)} tokens/s, more than any published rate of one worker. If tokens a second are "
                "meant, use --tokens-per-second."
            )
        return None

    def seconds(self, texts: float) -> float:
        """Return the seconds in which one worker encodes some texts: texts / (texts/s).

        Raises:
            InputError: the tokens of a text are not known.
        """
        speed = self.texts_per_second
        if speed is None:
            raise InputError("The time needs the tokens of a text (--tokens), or a rate in texts a second.")
        return texts / speed

    def to_dict(self) -> JsonDict:
        """Return the rate as a dict for JSON."""
        return {
            "tokens_per_text": self.tokens_per_text,
            "tokens_per_second": self.tokens_per_second,
            "texts_per_second": self.texts_per_second,
            "measured": self.measured,
        }


def stated_rate(
    tokens_per_second: float | None, texts_per_second: float | None, tokens_per_text: float | None
) -> EncodingRate | None:
    """Return the rate that a user states, or None if none is stated.

    Raises:
        InputError: both units are stated, or a number is not above 0.
    """
    if tokens_per_second is not None and texts_per_second is not None:
        raise InputError(
            "Give the speed as tokens a second or as texts a second, not both "
            f"({tokens_per_second:g} tokens/s, {texts_per_second:g} texts/s): --tokens says how long a text is.",
            param="texts_per_second",
        )
    if texts_per_second is not None:
        return EncodingRate(texts_per_second, "texts", tokens_per_text)
    return None if tokens_per_second is None else EncodingRate(tokens_per_second, "tokens", tokens_per_text)


def _warn_of_texts(per_second: float, texts_per_second: float | None) -> str:
    stated = format_amount(per_second)
    same = "" if texts_per_second is None else f" ({format_amount(texts_per_second)} texts/s)"
    return (
        f"{stated} tokens/s{same} are few: a slow CPU or a large model. If {stated} texts a second are meant, use "
        "--texts-per-second."
    )

"""How many vectors, or weights, a model stores for a text: one, one for each token, or one for each term."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield.errors import InputError
from nearfield.evaluation.planning.amount_checks import check_positive, check_share
from nearfield.recipe import Multivector
from nearfield.units import format_amount

#: Share of tokens that are punctuation: 0.127 of SciFact's abstracts and 0.126 of SQuAD's paragraphs, 800 each, in
#: BERT's WordPiece, in which each punctuation mark is a token (``string.punctuation``, what ColBERT leaves out).
PUNCTUATION_SHARE = 0.126


@dataclass(frozen=True)
class VectorCount:
    """Vectors of a text (of a sparse model: weights), how they were counted, and what was assumed."""

    per_text: float
    formula: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenSelection:
    """Which of a text's tokens get a vector in a model of late interaction.

    Args:
        max_tokens: Tokens of a document after which the model stops reading.
        head: The model's own description; None if its files are not on this machine.
        punctuation: Share of tokens that are punctuation, if the model leaves them out; None: assumed.
        pool_factor: Tokens that are merged into one vector before they are stored (arXiv:2409.14683); 1: none.

    Raises:
        InputError: a number is out of its range.
    """

    max_tokens: int
    head: Multivector | None = None
    punctuation: float | None = None
    pool_factor: float = 1.0

    def __post_init__(self) -> None:
        check_positive("max_tokens", self.max_tokens)
        if self.punctuation is not None:
            check_share("punctuation", self.punctuation)
        if not 1 <= self.pool_factor < float("inf"):
            raise InputError(f"The pool factor is at least 1, not {self.pool_factor}.", param="pool_factor")

    @property
    def length(self) -> int:
        """Tokens of a document that the model reads: those of its format, at most ``max_tokens``."""
        length = self.head.document.length if self.head is not None else None
        return min(length or self.max_tokens, self.max_tokens)

    @property
    def skipped_share(self) -> float:
        """Share of tokens that get no vector because they are punctuation."""
        if self.punctuation is not None:
            return self.punctuation
        return PUNCTUATION_SHARE if self.head is not None and self.head.document.skip else 0.0

    def count(self, tokens: float) -> VectorCount:
        """Return the vectors of a text of ``tokens`` tokens, special tokens included.

        Raises:
            InputError: ``tokens`` is not above 0.
        """
        check_positive("tokens", tokens)
        skipped = self.head.skip_first_tokens if self.head is not None else 0
        whole = tokens + self._markers
        read = min(whole, self.length)
        per_text = max(read - skipped, 0.0) * (1 - self.skipped_share) / self.pool_factor
        return VectorCount(per_text, self._formula(whole, read, skipped), tuple(self._notes(whole)))

    @property
    def _markers(self) -> int:
        """Tokens that the model puts before a document, and that have a vector too: ColBERT's [D]."""
        form = self.head.document if self.head is not None else None
        return int(form is not None and form.inserted and bool(form.prefix.strip()))

    def _formula(self, whole: float, read: float, skipped: int) -> str:
        size = format_amount(read)
        parts = [f"{size} tokens" if read == whole else f"the first {size} of {format_amount(whole)} tokens"]
        parts += [f"less {skipped} at the start"] if skipped else []
        parts += [f"x (1 - {self.skipped_share:g}) without punctuation"] if self.skipped_share else []
        parts += [f"/ {self.pool_factor:g} pooled"] if self.pool_factor != 1 else []
        return " ".join(parts)

    def _notes(self, whole: float) -> list[str]:
        notes = []
        if whole > self.length:
            notes.append(
                f"Texts are cut: the model reads {self.length:,} tokens of a document, not {format_amount(whole)}."
            )
        if self.head is None and self.punctuation is None:
            notes.append(
                "Vectors of punctuation are counted: whether this model leaves them out is in its files, which are not "
                f"here. English prose has a share of {PUNCTUATION_SHARE}: --punctuation {PUNCTUATION_SHARE}."
            )
        elif self.skipped_share and self.punctuation is None:
            notes.append(
                f"Assumed: a share of {PUNCTUATION_SHARE} of tokens is punctuation, which this model leaves out "
                "(English prose; --punctuation for your texts, or --measure)."
            )
        return notes


def measured_count(per_text: float, what: str) -> VectorCount:
    """Return the count of vectors or terms that was measured on sample texts."""
    return VectorCount(per_text, f"{format_amount(per_text)} {what} a text, measured on sample texts")


def term_count(terms: float | None, name: str) -> VectorCount:
    """Return the weights of a text of a sparse model, as stated.

    Raises:
        InputError: they are not stated, or not above 0.
    """
    if terms is None:
        raise InputError(
            f"{name} is sparse: the terms that it gives a text are not known, and depend on the texts. State them as "
            "--terms, or let the model count them in sample texts with --measure.",
            param="terms",
        )
    check_positive("terms", terms)
    return VectorCount(terms, f"{format_amount(terms)} terms a text, as stated")

"""Answer: a question and the passages found for it, to a text that cites them, and whose citations are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.answering.chat_stream import AnswerEnd
from nearfield.corpus.answering.citations import Citations
from nearfield.corpus.answering.prompt import BUDGET, UNANSWERED, context, estimate, messages
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import AnswerFailed, InputError

#: What is answered, by nobody's model, where nothing was found.
NOTHING_FOUND = "Nothing was found for this question."
_LONGEST_QUESTION = 8000


@dataclass(frozen=True)
class Citation:
    """A passage that an answer rests on.

    ``number`` is what the answer calls it: ``passages[number - 1]``. ``marks`` are where, from start up to end in
    characters of the answer's text. The rest is the passage's place, as in ``Found``.
    """

    number: int
    id: str
    document: str
    title: str
    start: int
    end: int
    page: int | None
    headings: tuple[str, ...]
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Answer:
    """An answer, and what it rests on.

    ``text`` is empty where no chat endpoint was asked. ``passages`` are those that were given to the model, [1] first.
    ``found`` says whether they hold the answer, as far as the model says. ``invalid`` are the numbers that it cited
    though no passage has them: they are taken out of the text. ``cut`` tells that it had to stop before its end
    (``max_tokens``), ``left_out`` how many passages there was no room for. ``usage`` are tokens as the endpoint counts.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    found: bool = True
    passages: tuple[SearchHit, ...] = ()
    invalid: tuple[int, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    cut: bool = False
    left_out: int = 0

    @property
    def cited(self) -> bool:
        """Whether it cites any passage: a text that cites none rests on nothing that could be checked."""
        return bool(self.citations)

    def told(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return {**asdict(self), "cited": self.cited}


def ask(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None = None,
    *,
    budget: int = BUDGET,
    count: Callable[[str], int] | None = None,
) -> Answer:
    """Answer a question from passages, the best first.

    Without an ``endpoint``, the answer is the passages alone; without passages, it says so and nobody is asked.
    ``budget`` are the tokens that all passages may take together, counted by ``count`` (``Ruler.count``) or estimated.

    Raises:
        InputError: the question is empty or too long.
        AnswerFailed: the endpoint cannot be reached, refused, or gave no answer in time; with what it said.
    """
    return _last(_answered(question, passages, endpoint, budget, count, streaming=False))


def stream(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None = None,
    *,
    budget: int = BUDGET,
    count: Callable[[str], int] | None = None,
) -> Iterator[str | Answer]:
    """Yield the answer's text in pieces as they come, and last the ``Answer``, whose text the pieces make up.

    Arguments and errors as for ``ask``.
    """
    return _answered(question, passages, endpoint, budget, count, streaming=True)


def _answered(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None,
    budget: int,
    count: Callable[[str], int] | None,
    *,
    streaming: bool,
) -> Iterator[str | Answer]:
    question = _checked(question)
    given, left_out = context(passages, budget, count)
    if left_out and not given:
        raise InputError(f"No passage fits into {budget} tokens: give more room.", param="budget")
    if not given:
        yield NOTHING_FOUND
        yield Answer(NOTHING_FOUND, found=False)
        return
    if endpoint is None:
        yield Answer("", passages=given, left_out=left_out)
        return
    told = messages(question, given)
    size = sum((count or estimate)(message["content"]) for message in told)
    marks, text, ended = Citations(len(given)), "", AnswerEnd()
    for piece in endpoint.stream(told, prompt_tokens=size, streaming=streaming):
        if isinstance(piece, AnswerEnd):
            ended = piece
        elif sure := marks.take(piece):
            text += sure
            yield sure
    if sure := marks.rest():
        text += sure
        yield sure
    yield _whole(text, marks, ended, given, left_out, endpoint)


def _whole(
    text: str, marks: Citations, ended: AnswerEnd, given: tuple[SearchHit, ...], left_out: int, endpoint: ChatEndpoint
) -> Answer:
    if not text.strip():
        why = f" before its {endpoint.max_tokens} tokens (max_tokens) were used up" if ended.cut else ""
        raise AnswerFailed(f"The chat endpoint {endpoint.shown} gave an empty answer{why}.")
    citations = tuple(_citation(number, given[number - 1], places) for number, places in sorted(marks.cited.items()))
    return Answer(
        text,
        citations,
        found=bool(citations) or not _declined(text),
        passages=given,
        invalid=tuple(sorted(marks.invalid)),
        usage=ended.usage,
        model=ended.model,
        cut=ended.cut,
        left_out=left_out,
    )


def _citation(number: int, passage: SearchHit, places: Sequence[tuple[int, int]]) -> Citation:
    where = (passage.id, passage.document, passage.title, passage.start, passage.end, passage.page, passage.headings)
    return Citation(number, *where, marks=tuple(places))


def _declined(text: str) -> bool:
    return UNANSWERED.rstrip(".").lower() in " ".join(text.split()).lower()


def _checked(question: str) -> str:
    question = question.strip()
    if not question:
        raise InputError("The question is empty.", param="question")
    if len(question) > _LONGEST_QUESTION:
        raise InputError(
            f"The question has {len(question)} characters, where {_LONGEST_QUESTION} are read.", param="question"
        )
    return question


def _last(pieces: Iterator[str | Answer]) -> Answer:
    for piece in pieces:
        if isinstance(piece, Answer):
            return piece
    raise RuntimeError("an answer ends with an Answer")

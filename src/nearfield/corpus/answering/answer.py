"""Answer a question from search results with a chat model, with citations that are checked against the passages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.answering.chat_stream import AnswerEnd
from nearfield.corpus.answering.citations import Citations
from nearfield.corpus.answering.passage_pictures import PassagePicture
from nearfield.corpus.answering.prompt import BUDGET, UNANSWERED, build_messages, estimate_tokens, select_passages
from nearfield.corpus.document import TEXT
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import AnswerFailed, InputError
from nearfield.message_text import count_of

#: The answer, without a model, when no passage is relevant.
NOTHING_FOUND = "The collection has no answer to this question: no passage is about it."
_MAX_QUESTION = 8000


@dataclass(frozen=True)
class Citation:
    """A passage that an answer rests on.

    ``number`` is its number in the answer: ``passages[number - 1]``. ``marks`` are the places of the citation, each
    from start to end in characters of the answer's text. The other fields are the passage's place, as in ``SearchHit``.
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
    last_page: int | None = None
    page_unit: str = "page"
    lines: tuple[int, int] | None = None
    start_time: float | None = None
    end_time: float | None = None
    kind: str = TEXT


@dataclass(frozen=True)
class Answer:
    """An answer and the passages that it rests on.

    ``text`` is empty without a chat endpoint. ``passages`` are those in the prompt, [1] first. ``found`` says whether
    they contain the answer, according to the model. ``invalid`` are the numbers that it cited although no passage has
    them; they are removed from the text. ``cut`` says that the model reached its limit (``max_tokens``), ``left_out``
    how many passages did not fit into the budget. ``usage`` are tokens as the endpoint counts them.
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
        """Whether it cites any passage: a text without citations rests on nothing that could be checked."""
        return bool(self.citations)

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return {**asdict(self), "cited": self.cited}


def ask(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None = None,
    *,
    budget: int = BUDGET,
    count: Callable[[str], int] | None = None,
    pictures: Sequence[PassagePicture] = (),
) -> Answer:
    """Answer a question from passages, the best first.

    Without an ``endpoint``, the answer holds the passages alone. Without passages, no model is asked. ``budget`` is the
    maximum number of tokens of all passages together, counted by ``count`` (``TokenCounter.count``) or estimated.
    ``pictures`` are sent too, as passages after the texts: only models that read pictures accept them.

    Raises:
        InputError: the question is empty or too long, or there are pictures and the endpoint's API has none.
        AnswerFailed: the endpoint cannot be reached, refused, or gave no answer in time; with its message.
    """
    return _last(_pieces(question, passages, endpoint, budget, count, pictures, streaming=False))


def stream(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None = None,
    *,
    budget: int = BUDGET,
    count: Callable[[str], int] | None = None,
    pictures: Sequence[PassagePicture] = (),
) -> Iterator[str | Answer]:
    """Yield the answer's text in pieces as they arrive, and last the ``Answer`` with the same text.

    Arguments and errors as for ``ask``.
    """
    return _pieces(question, passages, endpoint, budget, count, pictures, streaming=True)


def _pieces(
    question: str,
    passages: Sequence[SearchHit],
    endpoint: ChatEndpoint | None,
    budget: int,
    count: Callable[[str], int] | None,
    pictures: Sequence[PassagePicture],
    *,
    streaming: bool,
) -> Iterator[str | Answer]:
    question = _checked(question)
    passages = [passage for passage in passages if passage.text]  # pictures and sounds have none
    selected, left_out = select_passages(passages, budget, count)
    if left_out and not selected and not pictures:
        raise InputError(f"No passage fits into {budget} tokens: raise the budget.", param="budget")
    selected = (*selected, *(picture.passage for picture in pictures))
    if not selected:
        yield NOTHING_FOUND
        yield Answer(NOTHING_FOUND, found=False)
        return
    if endpoint is None:
        yield Answer("", passages=selected, left_out=left_out)
        return
    if pictures and endpoint.kind != "openai":
        raise InputError(
            "Pictures are sent to endpoints of OpenAI's API alone: of an Ollama server, give the URL with /v1.",
            param="pictures",
        )
    messages = build_messages(question, selected, [picture.uri for picture in pictures])
    size = sum((count or estimate_tokens)(str(message["content"])) for message in messages) if not pictures else 0
    citations, text, end = Citations(len(selected)), "", AnswerEnd()
    for piece in _with_hint(endpoint.stream(messages, prompt_tokens=size, streaming=streaming), len(pictures)):
        if isinstance(piece, AnswerEnd):
            end = piece
        elif checked := citations.feed(piece):
            text += checked
            yield checked
    if checked := citations.finish():
        text += checked
        yield checked
    yield _answer(text, citations, end, selected, left_out, endpoint)


def _with_hint(pieces: Iterator[str | AnswerEnd], pictures: int) -> Iterator[str | AnswerEnd]:
    """Yield the pieces of an answer; an error says that the question had pictures, which many models refuse."""
    try:
        yield from pieces
    except AnswerFailed as error:
        if not pictures:
            raise
        sent = count_of(pictures, "picture")
        raise AnswerFailed(f"{error} The question had {sent}: a model that reads none may refuse them.") from error


def _answer(
    text: str,
    citations: Citations,
    end: AnswerEnd,
    passages: tuple[SearchHit, ...],
    left_out: int,
    endpoint: ChatEndpoint,
) -> Answer:
    if not text.strip():
        limit = f"its {endpoint.max_tokens} tokens (max_tokens) were" if endpoint.max_tokens else "its own maximum was"
        reason = f" before {limit} used up" if end.cut else ""
        raise AnswerFailed(f"The chat endpoint {endpoint.shown} gave an empty answer{reason}.")
    cited = sorted(citations.cited.items())
    return Answer(
        text,
        tuple(_citation(number, passages[number - 1], places) for number, places in cited),
        found=bool(cited) or not _is_unanswered(text),
        passages=passages,
        invalid=tuple(sorted(citations.invalid)),
        usage=end.usage,
        model=end.model,
        cut=end.cut,
        left_out=left_out,
    )


def _citation(number: int, passage: SearchHit, places: Sequence[tuple[int, int]]) -> Citation:
    return Citation(
        number=number,
        id=passage.id,
        document=passage.document,
        title=passage.title,
        start=passage.start,
        end=passage.end,
        page=passage.page,
        headings=passage.headings,
        marks=tuple(places),
        last_page=passage.last_page,
        page_unit=passage.page_unit,
        lines=passage.lines,
        start_time=passage.start_time,
        end_time=passage.end_time,
        kind=passage.kind,
    )


def _is_unanswered(text: str) -> bool:
    return UNANSWERED.rstrip(".").lower() in " ".join(text.split()).lower()


def _checked(question: str) -> str:
    question = question.strip()
    if not question:
        raise InputError("The question is empty.", param="question")
    if len(question) > _MAX_QUESTION:
        raise InputError(
            f"The question has {len(question)} characters, more than the maximum of {_MAX_QUESTION}.", param="question"
        )
    return question


def _last(pieces: Iterator[str | Answer]) -> Answer:
    for piece in pieces:
        if isinstance(piece, Answer):
            return piece
    raise RuntimeError("an answer ends with an Answer")

"""Search results and the sources of an answer, printed on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from nearfield.message_text import count_of, is_unsafe, quote_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.search.hit import SearchHit

#: Characters of a passage that are shown around its best sentence, unless --full.
_WINDOW = 400
#: Maximum number of other places of the same text that are named.
_PLACES = 3


def plain(text: str) -> str:
    """Return a text of the same length without control characters: documents may contain terminal commands."""
    return "".join(" " if is_unsafe(letter) and letter not in "\n\t" else letter for letter in text)


def show(
    passages: Sequence[SearchHit],
    *,
    full: bool = False,
    explain: bool = False,
    thumbnails: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print passages with number, score, place, and text; the best sentences are marked.

    Args:
        passages: hits, the best first.
        full: whether whole texts are shown.
        explain: whether the scores of each stage are shown.
        thumbnails: escape sequences that show pictures of passages, by their ids.
    """
    from rich.text import Text

    console = _console()
    if not passages:
        console.print("No results.")
    for number, hit in enumerate(passages, 1):
        head = Text(f"{number:2}  {hit.score:6.2f}  ")
        head.append(_name(hit), style="bold")
        console.print(head, soft_wrap=True)
        console.print(Text(f"    {_place(hit)}", style="dim"), soft_wrap=True)
        if hit.id in thumbnails:
            console.file.write(f"    {thumbnails[hit.id]}\n")
        for line in _snippet(hit, full=full).wrap(console, console.width - 4) if hit.text else ():
            console.print(Text("    ") + line)
        for other in hit.others:
            console.print(Text(f"    also {_other(other)}", style="dim"), soft_wrap=True)
        if explain:
            console.print(Text(f"    {_stages(hit)}{_frames(hit)}", style="dim"), soft_wrap=True)
        console.print()
    for note in dict.fromkeys(hit.bridge for hit in passages if hit.bridge):
        console.print(Text(plain(note), style="yellow"), soft_wrap=True)


def show_sources(answer: Answer) -> None:
    """Print the passages that an answer cites."""
    from rich.text import Text

    console = _console()
    for citation in answer.citations:
        passage = answer.passages[citation.number - 1]
        line = Text(f"[{citation.number}] ")
        line.append(_name(passage), style="bold")
        line.append(f"  {_place(passage)}", style="dim")
        console.print(line, soft_wrap=True)


def warnings(answer: Answer) -> Iterable[str]:
    """Yield warnings about an answer."""
    if answer.text and answer.found and not answer.cited:
        yield "the answer cites no passage, so nothing shows that it is based on the collection"
    if answer.invalid:
        numbers = ", ".join(map(str, answer.invalid))
        yield f"the answer cited passages that do not exist ({numbers}); these citations were removed"
    if answer.cut:
        yield "the answer reached its maximum length and is incomplete"
    if answer.left_out:
        yield f"{count_of(answer.left_out, 'passage')} did not fit into --budget"


def warnings_without_evidence(min_score: float) -> Iterable[str]:
    """Yield a warning about an answer for which no passage reached ``min_score``, unless that is 0."""
    if min_score > 0:
        yield (
            f"no passage reaches a score of {min_score:g}, so no model was asked; --min-score sets it, and "
            "nearfield search shows the passages below it"
        )


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def _name(hit: SearchHit) -> str:
    parts = dict.fromkeys(" ".join(plain(part).split()) for part in (hit.title, *hit.headings))
    return " > ".join(part for part in parts if part) or _key(hit.document)


def _key(document: str) -> str:
    return quote_name(document.partition("#")[2] or document)


def _place(hit: SearchHit) -> str:
    others = [", ".join(part for part in (_key(place.document), place.describe()) if part) for place in hit.also]
    more = f" and {len(others) - _PLACES} more" if len(others) > _PLACES else ""
    also = f"  (also in {'; '.join(others[:_PLACES])}{more})" if others else ""
    place = ", ".join(part for part in (quote_name(hit.document), hit.location.describe()) if part)
    return f"{place}{also}"


def _other(hit: SearchHit) -> str:
    """Return the place and the score of a hit that is folded into another."""
    place = ", ".join(part for part in (_key(hit.document), hit.location.describe()) if part)
    return f"{place} ({hit.kind}, {hit.score:.2f})"


def _snippet(hit: SearchHit, *, full: bool) -> Text:
    from rich.text import Text

    hit = hit.without_shared()
    text = Text(plain(hit.text))
    for start, end in hit.highlights:
        text.stylize("bold yellow", start, end)
    if full or len(text) <= _WINDOW:
        return text
    middle = sum(hit.highlights[0]) // 2 if hit.highlights else 0
    start = max(0, min(middle - _WINDOW // 2, len(text) - _WINDOW))
    part = text[start : start + _WINDOW]
    return Text("... " if start else "") + part + Text(" ..." if start + _WINDOW < len(text) else "")


def _frames(hit: SearchHit) -> str:
    """Return the seconds of the frames that the vector of a hit comes from."""
    return f"; frames at {', '.join(f'{frame.seconds:g}' for frame in hit.frames)} s" if hit.frames else ""


def _stages(hit: SearchHit) -> str:
    return "; ".join(
        f"{name} {stage['score']:.4f}" + (f" (rank {stage['rank']:.0f})" if "rank" in stage else "")
        for name, stage in hit.stages.items()
    )

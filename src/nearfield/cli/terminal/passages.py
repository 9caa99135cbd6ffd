"""Passages: what was found, and an answer that rests on it, as people read them on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.search.hit import SearchHit

#: Characters that are shown of a passage, around its best sentence, unless all are wanted.
_WINDOW = 400
#: Other places of the same text that are named.
_PLACES = 3


def plain(text: str) -> str:
    """Return a text without what a terminal would obey: documents and models may hold anything."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)


def show(passages: Sequence[SearchHit], *, full: bool = False, explain: bool = False) -> None:
    """Print passages: number, score, place, and the text with its best sentences marked."""
    from rich.text import Text

    console = _console()
    if not passages:
        console.print("Nothing was found.")
    for number, each in enumerate(passages, 1):
        head = Text(f"{number:2}  {each.score:8.4f}  ")
        head.append(_name(each), style="bold")
        console.print(head, soft_wrap=True)
        console.print(Text(f"    {_place(each)}", style="dim"), soft_wrap=True)
        for line in _snippet(each, full=full).wrap(console, console.width - 4):
            console.print(Text("    ") + line)
        if explain:
            console.print(Text(f"    {_stages(each)}", style="dim"), soft_wrap=True)
        console.print()


def show_sources(answer: Answer) -> None:
    """Print what an answer rests on, and what to beware of."""
    from rich.text import Text

    console = _console()
    for citation in answer.citations:
        passage = answer.passages[citation.number - 1]
        line = Text(f"[{citation.number}] ")
        line.append(_name(passage), style="bold")
        line.append(f"  {_place(passage)}", style="dim")
        console.print(line, soft_wrap=True)


def warnings(answer: Answer) -> Iterable[str]:
    """Yield what whoever reads an answer should know."""
    if answer.text and answer.found and not answer.cited:
        yield "the answer cites no passage: nothing shows that it rests on any"
    if answer.invalid:
        numbers = ", ".join(map(str, answer.invalid))
        yield f"the answer cited passages that were not given ({numbers}); those marks were taken out"
    if answer.cut:
        yield "the answer was cut at its longest: there was more to say"
    if answer.left_out:
        yield f"{answer.left_out} passages were left out, for lack of room (--budget)"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def _name(found: SearchHit) -> str:
    parts = dict.fromkeys(" ".join(plain(part).split()) for part in (found.title, *found.headings))
    return " > ".join(part for part in parts if part) or _key(found.document)


def _key(document: str) -> str:
    return plain(document.partition("#")[2] or document)


def _place(found: SearchHit) -> str:
    page = f", page {found.page}" if found.page is not None else ""
    others = [_key(origin.document) for origin in found.also]
    more = f" and {len(others) - _PLACES} more" if len(others) > _PLACES else ""
    also = f"  (also in {', '.join(others[:_PLACES])}{more})" if others else ""
    return f"{plain(found.document)}{page}, characters {found.start} to {found.end}{also}"


def _snippet(found: SearchHit, *, full: bool) -> Text:
    from rich.text import Text

    text = Text(plain(found.text))
    for start, end in found.highlights:
        text.stylize("bold yellow", start, end)
    if full or len(text) <= _WINDOW:
        return text
    middle = sum(found.highlights[0]) // 2 if found.highlights else 0
    start = max(0, min(middle - _WINDOW // 2, len(text) - _WINDOW))
    part = text[start : start + _WINDOW]
    return Text("... " if start else "") + part + Text(" ..." if start + _WINDOW < len(text) else "")


def _stages(found: SearchHit) -> str:
    return "; ".join(
        f"{name} {stage['score']:.4f}" + (f" (rank {stage['rank']:.0f})" if "rank" in stage else "")
        for name, stage in found.stages.items()
    )

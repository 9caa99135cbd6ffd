"""Citations: the marks in an answer that name passages by number, read and checked against those that were given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: A mark: [1], [1, 2], [1-3], and what models write instead: [^1], [Passage 1], 【1†source】. Not an index such as
#: ``x[0]`` in code between back ticks, and not a link of Markdown.
_NUMBERS = r"[0-9]{1,6}(?:\s*[-–—]\s*[0-9]{1,6})?"
_MARK = re.compile(
    r"(?P<code>```.*?(?:```|\Z)|`[^`\n]+`)|"
    r"[ \t]*(?P<mark>[\[【]\s*\^?(?:(?:passages?|sources?|documents?|refs?)\.?:?\s*)?"
    rf"(?P<inner>{_NUMBERS}(?:\s*(?:[,;&]|and)\s*{_NUMBERS})*)\s*(?:†[^\]】]{{0,80}})?[\]】])(?!\()",
    re.IGNORECASE | re.DOTALL,
)
#: The end of a text that may yet become a mark, or code.
_UNSURE = re.compile(r"```(?:(?!```).)*\Z|`{1,2}\Z|`[^`\n]*\Z|[ \t]*[\[【][^\[\]【】]{0,120}[\]】]?\Z|\s+\Z", re.DOTALL)
_PLAIN = re.compile(r"\[[0-9,;\s–—-]+\]")
_RANGE = re.compile(r"([0-9]+)(?:\s*[-–—]\s*([0-9]+))?")
#: Numbers that are told of one mark, of those that do not exist.
_MOST_INVALID = 20


@dataclass
class Citations:
    """Reads an answer piece by piece.

    Marks that name only passages from 1 to ``count`` stay. Of the others, what does not exist is taken out: ``[1, 9]``
    becomes ``[1]``, and a mark with nothing left goes, with the blanks before it. ``cited`` are the numbers of passages
    and where each is cited (start, end) in the text as it was given out; ``invalid`` the numbers that do not exist.
    """

    count: int
    cited: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    invalid: set[int] = field(default_factory=set)
    _held: str = ""
    _length: int = 0

    def take(self, piece: str) -> str:
        """Return what is certain of the text so far and was not given out yet; it may be empty."""
        return self._checked(self._held + piece, last=False)

    def rest(self) -> str:
        """Return what was held back, without white space at its end, once the answer has ended."""
        return self._checked(self._held.rstrip(), last=True)

    def _checked(self, text: str, *, last: bool) -> str:
        told, done = "", 0
        while True:
            match = _MARK.search(text, done)
            unsure = None if last else _UNSURE.search(text, done)
            if unsure is not None and (match is None or unsure.start() <= match.start()):
                told, self._held = told + text[done : unsure.start()], text[unsure.start() :]
                break
            if match is None:
                told, self._held = told + text[done:], ""
                break
            told += text[done : match.start()]
            told += match[0] if match["code"] else self._mark(match, self._length + len(told))
            done = match.end()
        self._length += len(told)
        return told

    def _mark(self, match: re.Match[str], at: int) -> str:
        """Note a mark that would stand ``at`` this place, and return what stands there instead."""
        numbers = list(dict.fromkeys(self._numbers(match["inner"])))
        there = [number for number in numbers if 1 <= number <= self.count]
        wrong = [number for number in numbers if number not in there]
        self.invalid.update(wrong[:_MOST_INVALID])
        if not there:
            return ""
        blanks = match[0][: match.start("mark") - match.start()]
        plain = not wrong and _PLAIN.fullmatch(match["mark"])
        mark = match["mark"] if plain else f"[{', '.join(map(str, there))}]"
        place = (at + len(blanks), at + len(blanks) + len(mark))
        for number in there:
            self.cited.setdefault(number, []).append(place)
        return blanks + mark

    def _numbers(self, inner: str) -> Iterator[int]:
        """Yield the numbers of a mark; of a range that leaves what exists, its ends and what does."""
        for match in _RANGE.finditer(inner):
            first, last = sorted((int(match[1]), int(match[2] or match[1])))
            yield first
            yield from range(max(first, 1), min(last, self.count) + 1)
            yield last

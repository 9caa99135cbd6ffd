"""Citations in an answer: find the marks that name passages by number, and remove those without a passage."""

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
#: The end of a text that may still become a mark, or code.
_UNSURE = re.compile(r"```(?:(?!```).)*\Z|`{1,2}\Z|`[^`\n]*\Z|[ \t]*[\[【][^\[\]【】]{0,120}[\]】]?\Z|\s+\Z", re.DOTALL)
_PLAIN = re.compile(r"\[[0-9,;\s–—-]+\]")
_RANGE = re.compile(r"([0-9]+)(?:\s*[-–—]\s*([0-9]+))?")
#: Numbers without a passage that are reported of one mark.
_MAX_INVALID = 20


@dataclass
class Citations:
    """Checks the citations of an answer, piece by piece.

    Marks that name only passages from 1 to ``count`` stay. Other numbers are removed: ``[1, 9]`` becomes ``[1]``, and
    a mark without a number left is removed with the blanks before it. ``cited`` are the numbers of passages and their
    places (start, end) in the text that was returned; ``invalid`` are the numbers without a passage.
    """

    count: int
    cited: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    invalid: set[int] = field(default_factory=set)
    _pending: str = ""
    _length: int = 0

    def feed(self, piece: str) -> str:
        """Add a piece; return the text that is now certain, which may be empty."""
        return self._check(self._pending + piece, last=False)

    def finish(self) -> str:
        """Return the rest of the text at the end of the answer, without white space at its end."""
        return self._check(self._pending.rstrip(), last=True)

    def _check(self, text: str, *, last: bool) -> str:
        checked, done = "", 0
        while True:
            match = _MARK.search(text, done)
            unsure = None if last else _UNSURE.search(text, done)
            if unsure is not None and (match is None or unsure.start() <= match.start()):
                checked, self._pending = checked + text[done : unsure.start()], text[unsure.start() :]
                break
            if match is None:
                checked, self._pending = checked + text[done:], ""
                break
            checked += text[done : match.start()]
            checked += match[0] if match["code"] else self._mark(match, self._length + len(checked))
            done = match.end()
        self._length += len(checked)
        return checked

    def _mark(self, match: re.Match[str], position: int) -> str:
        """Record a mark at this position of the text, and return its valid form."""
        numbers = list(dict.fromkeys(self._numbers(match["inner"])))
        valid = [number for number in numbers if 1 <= number <= self.count]
        invalid = [number for number in numbers if number not in valid]
        self.invalid.update(invalid[:_MAX_INVALID])
        if not valid:
            return ""
        blanks = match[0][: match.start("mark") - match.start()]
        plain = not invalid and _PLAIN.fullmatch(match["mark"])
        mark = match["mark"] if plain else f"[{', '.join(map(str, valid))}]"
        place = (position + len(blanks), position + len(blanks) + len(mark))
        for number in valid:
            self.cited.setdefault(number, []).append(place)
        return blanks + mark

    def _numbers(self, inner: str) -> Iterator[int]:
        """Yield the numbers of a mark; of a range, its ends and the passages in it."""
        for match in _RANGE.finditer(inner):
            first, last = sorted((int(match[1]), int(match[2] or match[1])))
            yield first
            yield from range(max(first, 1), min(last, self.count) + 1)
            yield last

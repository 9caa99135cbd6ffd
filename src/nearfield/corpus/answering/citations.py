"""Citations in an answer: find the marks that name passages by number, and remove those without a passage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NUMBERS = r"[0-9]{1,6}(?:\s*[-–—]\s*[0-9]{1,6})?"
#: A mark: [1], [1, 2], [1-3], and what models write instead: [^1], [Passage 1], 【1†source】. Not an index such as
#: ``x[0]`` in code between back ticks, and not a link of Markdown.
_MARK = (
    r"[\[【]\s*\^?(?:(?:passages?|sources?|documents?|refs?)\.?:?\s*)?"
    rf"{_NUMBERS}(?:\s*(?:[,;&]|and)\s*{_NUMBERS})*\s*(?:†[^\]】]{{0,80}})?[\]】](?!\()"
)
_ANY_MARK = re.compile(_MARK, re.IGNORECASE)
#: The text between the marks of a list, and before a list in parentheses.
_SEPARATOR = r"[ \t]*(?:[,;&]|and|or|und|oder)?[ \t]*"
_OPENING = r"\((?:(?:see|cf\.|vgl\.|siehe|from|in|per)[ \t]+)?"
#: Code, or a list of marks.
_CODE_OR_MARKS = re.compile(
    rf"(?P<code>```.*?(?:```|\Z)|`[^`\n]+`)|"
    rf"(?P<blanks>[ \t]*)(?P<opening>(?:{_OPENING})?)(?P<marks>{_MARK}(?:{_SEPARATOR}{_MARK})*)(?P<closing>\)?)",
    re.IGNORECASE | re.DOTALL,
)
#: The end of a text that may still become marks, or code.
_BRACKETS = r"[\[【][^\[\]【】]{0,120}[\]】]"
_UNSURE = re.compile(
    r"```(?:(?!```).)*\Z|`{1,2}\Z|`[^`\n]*\Z|"
    rf"[ \t]*(?:{_OPENING})?{_BRACKETS}(?:{_SEPARATOR}{_BRACKETS})*[ \t]*(?:[,;&]|an?|and|or?|un?|und|od|ode|oder)?\s*"
    r"(?:[\[【][^\[\]【】]{0,120})?\Z|"
    rf"[ \t]*(?:{_OPENING})?[\[【][^\[\]【】]{{0,120}}\Z|[ \t]*\([a-z.]{{0,8}}[ \t]*\Z|\s+\Z",
    re.IGNORECASE | re.DOTALL,
)
#: Words after which a mark is a part of the sentence: without it, a hole would be left.
_BEFORE_NOUN = re.compile(
    r"(?:\b(?:as|and|by|cf|documents?|from|in|like|of|on|or|passages?|per|see|sources?|than|to|with|aus|in|laut|nach|siehe"
    r"|und|wie)\.?|^|[.!?:]|\n)\s*\Z",
    re.IGNORECASE,
)
_MISSING = "[?]"
_BEGINS_CLAUSE = re.compile(r"\s+[a-zäöüß]")
#: Characters before a mark that are looked at.
_TAIL = 40
_PLAIN = re.compile(r"\[[0-9,;\s–—-]+\]")
_RANGE = re.compile(r"([0-9]+)(?:\s*[-–—]\s*([0-9]+))?")
#: Numbers without a passage that are reported of one mark.
_MAX_INVALID = 20


@dataclass
class Citations:
    """Checks the citations of an answer, piece by piece.

    Marks that name only passages from 1 to ``count`` stay. Other numbers are removed: ``[1, 9]`` becomes ``[1]``. A
    mark without a number left is removed with the blanks, separators and parentheses around it, or becomes ``[?]``
    where it is a part of the sentence ("as [9] says"). ``cited`` are the numbers of passages and their places (start,
    end) in the text that was returned; ``invalid`` are the numbers without a passage.
    """

    count: int
    cited: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    invalid: set[int] = field(default_factory=set)
    _pending: str = ""
    _length: int = 0
    _tail: str = ""

    def feed(self, piece: str) -> str:
        """Add a piece; return the text that is now certain, which may be empty."""
        return self._check(self._pending + piece, last=False)

    def finish(self) -> str:
        """Return the rest of the text at the end of the answer, without white space at its end."""
        return self._check(self._pending.rstrip(), last=True)

    def _check(self, text: str, *, last: bool) -> str:
        checked, done = "", 0
        while True:
            match = _CODE_OR_MARKS.search(text, done)
            unsure = None if last else _UNSURE.search(text, done)
            if unsure is not None and (match is None or unsure.start() <= match.start()):
                checked, self._pending = checked + text[done : unsure.start()], text[unsure.start() :]
                break
            if match is None:
                checked, self._pending = checked + text[done:], ""
                break
            checked += text[done : match.start()]
            before = (self._tail + checked)[-_TAIL:]
            checked += match[0] if match["code"] else self._marks(match, before, self._length + len(checked))
            done = match.end()
        self._length += len(checked)
        self._tail = (self._tail + checked)[-_TAIL:]
        return checked

    def _marks(self, match: re.Match[str], before: str, position: int) -> str:
        """Return the valid form of a list of marks at this position of the text, and record its citations."""
        blanks, opening, closing = match["blanks"], match["opening"], match["closing"]
        result, end = blanks + opening, 0
        has_valid = False
        for mark in _ANY_MARK.finditer(match["marks"]):
            separator = match["marks"][end : mark.start()] if has_valid else ""
            valid = self._mark(mark[0], position + len(result) + len(separator))
            result += separator + valid if valid else ""
            has_valid |= bool(valid)
            end = mark.end()
        if has_valid:
            return result + closing
        if opening and closing:
            return ""
        is_noun = bool(opening) or _BEFORE_NOUN.search(before + blanks) is not None
        starts_sentence = before.rstrip(" \t")[-1:] in ("", "\n", ".", "!", "?", ":")
        if is_noun and (not starts_sentence or opening or _BEGINS_CLAUSE.match(match.string, match.end())):
            return blanks + opening + _MISSING + closing
        return closing

    def _mark(self, mark: str, position: int) -> str:
        """Record a mark at this position of the text, and return its valid form."""
        numbers = list(dict.fromkeys(self._numbers(mark.partition("†")[0])))
        valid = [number for number in numbers if 1 <= number <= self.count]
        invalid = [number for number in numbers if number not in valid]
        self.invalid.update(invalid[:_MAX_INVALID])
        if not valid:
            return ""
        text = mark if not invalid and _PLAIN.fullmatch(mark) else f"[{', '.join(map(str, valid))}]"
        for number in valid:
            self.cited.setdefault(number, []).append((position, position + len(text)))
        return text

    def _numbers(self, inner: str) -> Iterator[int]:
        """Yield the numbers of a mark; of a range, its ends and the passages in it."""
        for match in _RANGE.finditer(inner):
            first, last = sorted((int(match[1]), int(match[2] or match[1])))
            yield first
            yield from range(max(first, 1), min(last, self.count) + 1)
            yield last

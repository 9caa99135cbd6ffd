"""`TextDuplicates`: groups of texts that repeat each other, with the one to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearfield.evaluation.json_types import JsonDict
from nearfield.media.copies.grouping import CopyLink
from nearfield.message_text import count_of, escape_controls

#: Groups, and characters of a text, that a report shows.
_SHOWN_GROUPS, _SHOWN = 20, 90
#: Measures, in the order in which they are tried, with a mark and a word each.
EXACT, NEAR, MEANING = "exact", "near", "meaning"
_MARKS: Mapping[str, str] = {EXACT: "=", NEAR: "~", MEANING: "*"}


@dataclass(frozen=True)
class TextDuplicates:
    """Copies by the number of each: the text to keep, the measure, and how near it is.

    Nothing is changed: ``unique`` are the numbers of the texts to keep, in order.
    """

    texts: Sequence[str]
    ids: Sequence[object]
    links: Mapping[int, CopyLink]

    @property
    def unique(self) -> list[int]:
        """The numbers of the texts that are no copy."""
        return [number for number in range(len(self.texts)) if number not in self.links]

    @cached_property
    def groups(self) -> dict[int, list[int]]:
        """The copies of each text that has some, the largest group first."""
        groups: dict[int, list[int]] = {}
        for copy, link in self.links.items():
            groups.setdefault(link.original, []).append(copy)
        return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))

    def sample(self, count: int) -> list[tuple[int, CopyLink]]:
        """Return copies for a person to judge, from the least similar on: all values between them are there.

        Equal texts are not among them.
        """
        doubtful = sorted(
            ((copy, link) for copy, link in self.links.items() if link.measure != EXACT), key=lambda item: item[1].value
        )
        places = sorted({round(place) for place in np.linspace(0, len(doubtful) - 1, min(count, len(doubtful)))})
        return [doubtful[place] for place in places]

    def rows(self) -> Iterator[JsonDict]:
        """Yield the list of links: the id of each copy, and of the text to keep."""
        for copy, link in self.links.items():
            ids = {"id": self.ids[copy], "copy_of": self.ids[link.original]}
            yield {**ids, "measure": link.measure, "similarity": round(link.value, 6)}

    def to_dict(self) -> JsonDict:
        """Return counts in a form for JSON."""
        measures = [link.measure for link in self.links.values()]
        counts = {name: measures.count(name) for name in _MARKS}
        return {"texts": len(self.texts), "unique": len(self.texts) - len(self.links), "groups": len(self.groups)} | {
            "copies": counts
        }

    def to_text(self) -> str:
        """Return lines for a terminal."""
        lines = []
        for original, copies in list(self.groups.items())[:_SHOWN_GROUPS]:
            lines.append(f"{self.ids[original]}  {self.texts[original][:_SHOWN]}")
            lines += [self._copy_line(copy) for copy in copies]
        if len(self.groups) > _SHOWN_GROUPS:
            lines.append(f"and {count_of(len(self.groups) - _SHOWN_GROUPS, 'group')} more: --format json lists all.")
        counts = self.to_dict()["copies"]
        shares = f"{counts[EXACT]:,} equal to one of them, {counts[NEAR]:,} nearly, {counts[MEANING]:,} in meaning"
        lines.append(f"{count_of(len(self.texts), 'text')}: {len(self.texts) - len(self.links):,} to keep, {shares}.")
        return "\n".join(map(escape_controls, lines))

    def _copy_line(self, copy: int) -> str:
        link = self.links[copy]
        return f"  {_MARKS[link.measure]} {self.ids[copy]}  {link.value:.2f}  {self.texts[copy][:_SHOWN]}"

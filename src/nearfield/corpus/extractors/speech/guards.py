"""What was probably not said: Whisper invents sentences in music and noise, and repeats itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.speech.transcriber import SpeechSegment
from nearfield.message_text import count_of
from nearfield.units import format_clock

#: Probability of no speech from which on an improbable segment is left out, and the mean log probability below
#: which it is improbable. Both are those of Whisper itself.
_NO_SPEECH, _IMPROBABLE = 0.6, -1.0
#: Ratio of compression above which a segment repeats itself, also Whisper's.
_REPETITIVE = 2.4
#: The same text in a row: from the second one after the first on, it is left out, unless there are so many seconds
#: before it.
_MAX_SAME, _FAR = 2, 30.0
_MAX_NAMED = 3
_WORDS = re.compile(r"\w+")
_LARGER = 'Listen to them, or choose a larger model (speech = "small").'


@dataclass
class SpeechGuard:
    """Chooses the segments of one recording. ``uncertain``, ``repeated`` and ``hard`` are seconds at which they begin.

    Uncertain and repeated ones are left out; hard ones are in the text, but may be wrong.
    """

    uncertain: list[float] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    hard: list[float] = field(default_factory=list)
    _last: str = ""
    _last_end: float = 0.0
    _same: int = 0

    def choose(self, segments: Iterable[SpeechSegment]) -> list[SpeechSegment]:
        """Return the segments that were probably said; to be called in order."""
        return [segment for segment in segments if self._is_kept(segment)]

    def _is_kept(self, segment: SpeechSegment) -> bool:
        words = " ".join(_WORDS.findall(segment.text.casefold()))
        if not words:
            return False
        is_near = segment.start - self._last_end < _FAR
        self._same = self._same + 1 if words == self._last and is_near else 0
        self._last, self._last_end = words, segment.end
        is_improbable = segment.log_probability < _IMPROBABLE
        if is_improbable and segment.no_speech > _NO_SPEECH:
            self.uncertain.append(segment.start)
        elif self._same >= _MAX_SAME or segment.compression > _REPETITIVE:
            self.repeated.append(segment.start)
        else:
            if is_improbable:
                self.hard.append(segment.start)
            return True
        return False

    def losses(self) -> list[Loss]:
        """Return what was left out, and what may be wrong."""
        reasons = (
            (self.uncertain, "in which probably nothing is said", _LARGER),
            (self.repeated, "with repeated words that were probably not said", _LARGER),
            (self.hard, "hard to hear, with text that may be wrong", _LARGER),
        )
        return [Loss(f"{_passages(times)} {reason}", advice=advice) for times, reason, advice in reasons if times]


def _passages(times: Sequence[float]) -> str:
    """Return the number of passages, and when the first ones begin."""
    named = ", ".join(map(format_clock, times[:_MAX_NAMED]))
    more = f" and {len(times) - _MAX_NAMED} more" if len(times) > _MAX_NAMED else ""
    return f"{count_of(len(times), 'passage')} (at {named}{more})"

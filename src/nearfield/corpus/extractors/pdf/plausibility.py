"""Whether the text of a page is plausible: fonts without a map of characters, lost ligatures, missing spaces."""

from __future__ import annotations

import re
import unicodedata

#: The pairs of letters that are frequent in European languages which are written with Latin letters.
_PAIRS = frozenset(
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic "
    "ne ea ra ce li ch ll be ma si om ur ei ie ge un di sc ss au el la em ta tr ns us ec pe ut ai qu il ns no po pr do "
    "da os do ad ca ac so mo tu nu ni ol am ap pa id ag ga ig ij ee aa oo et im ec su up tt so na ko ka ki ke sk wi wa "
    "we ow wo ov av iv vi va ir op pl sp ab ba bo br bi ho hu ul lu lo ly mi mm nc nn ct rt rs rd rn rm ry ls lt ld ts "
    "fi fo fr fe ff if ef sh ez az ze za zi cz rz sz wy dz ja je ju jo pi pu vo vr yt ay ey ak ik ek ok uk un ud ub uc "
    "ru sa ue um ev ex ot os od gr gi go gu gh ht du dr eg ep eu ia iu ua ui uo ob og of oi".split()
)
#: Letters between which pairs are counted, the minimum number of pairs, and the share of frequent pairs below which a
#: text is not in a language. Sound pages have 0.6 to 0.9; shifted codes have 0.1 to 0.35.
_WORD = re.compile(r"[a-z]{3,}")
_MIN_PAIRS, _MIN_SHARE = 120, 0.42
#: Share of letters without a character, and the number of letters, from which a page is damaged.
_MAX_UNMAPPED, _MIN_LETTERS = 0.08, 20
#: English and German words as they are after the loss of a ligature.
_LOST = re.compile(
    r"\b(?:di erent|e cient(?:ly)?|su cient(?:ly)?|speci c(?:ally|ation)?|signi cant(?:ly)?|o ce|o cial|e ect(?:s|ive)?|"
    r"a ect(?:s|ed)?|de ne[ds]?|de nition|identi ed|classi cation|con g(?:uration)?|bene ts?|pro ts?|pro le|"
    r"o er(?:s|ed)?|di cult(?:y)?|scienti c|ful l|nal(?:ly)?|rst|nd|eld|P icht|Au age|gri)\b"
)
_MIN_LOST = 4
#: The length of a word in Latin letters that no language has, and their number on a page without spaces.
_LONG = re.compile(r"[^\W\d_]{35,}")
_MIN_LONG = 3


def damage(text: str, letters: int, unmapped: int) -> str:
    """Return what is wrong with the text of a page, or an empty string.

    ``letters`` is the number of letters on the page, ``unmapped`` that of letters without a character.
    """
    if letters >= _MIN_LETTERS and unmapped >= _MAX_UNMAPPED * letters:
        return "a font has no map of characters"
    if _pair_share(text) < _MIN_SHARE:
        return "its letters form no words"
    if len(_LOST.findall(text)) >= _MIN_LOST and " ff" not in text:
        return "its ligatures are lost"
    if len([word for word in _LONG.findall(text) if word.isascii()]) >= _MIN_LONG:
        return "its spaces are lost"
    return ""


def _pair_share(text: str) -> float:
    """Return the share of frequent pairs among the pairs of letters; 1 if there are too few letters to know."""
    plain = unicodedata.normalize("NFD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = [word for word in re.findall(r"[^\W_]+", plain) if word.isascii() and not word.isupper()]
    upper = [word for word in re.findall(r"[^\W_]+", plain) if word.isascii() and word.isupper() and word.isalpha()]
    pairs = [
        word[at : at + 2] for word in map(str.lower, [*words, *upper]) if _WORD.fullmatch(word) for at in range(len(word) - 1)
    ]
    if len(pairs) < _MIN_PAIRS:
        return 1.0
    return sum(pair in _PAIRS for pair in pairs) / len(pairs)

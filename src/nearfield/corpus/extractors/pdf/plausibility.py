"""Whether the text of a page is plausible: fonts without a map of characters, lost ligatures, missing spaces."""

from __future__ import annotations

import re
import unicodedata

#: The pairs of letters that are frequent in European languages which are written with Latin letters.
_PAIRS = """
aa ab ac ad ag ai ak al am an ap ar as at au av ay az ba be bi bo br ca ce ch co ct cz da de di do dr du dz ea ec ed
ee ef eg ei ek el em en ep er es et eu ev ex ey ez fe ff fi fo fr ga ge gh gi go gr gu ha he hi ho ht hu ia ic id ie
if ig ij ik il im in io ir is it iu iv ja je jo ju ka ke ki ko la ld le li ll lo ls lt lu ly ma me mi mm mo na nc nd
ne ng ni nn no ns nt nu ob od of og oi ok ol om on oo op or os ot ou ov ow pa pe pi pl po pr pu qu ra rd re ri rm rn
ro rs rt ru ry rz sa sc se sh si sk so sp ss st su sz ta te th ti to tr ts tt tu ua ub uc ud ue ui uk ul um un uo up
ur us ut va ve vi vo vr wa we wi wo wy yt za ze zi
"""
_FREQUENT = frozenset(_PAIRS.split())
#: Words whose pairs are counted, the minimum number of pairs, and the share of frequent pairs below which a text is in
#: no language. Texts in Latin letters have 0.74 to 0.95 (Welsh has 0.51), shifted codes mostly 0.11 to 0.46.
_WORD = re.compile(r"[a-z]{3,}")
_MIN_PAIRS, _MIN_SHARE = 120, 0.47
#: Share of letters without a character, and the number of letters, from which a page is damaged; the same for a page
#: with fewer letters, such as a title.
_MAX_UNMAPPED, _MIN_LETTERS, _FEW_UNMAPPED = 0.08, 20, 0.4
#: Letters of Latin scripts that no language has in the majority: another code, such as that of Cyrillic, is read as
#: Latin-1. Their number and share from which it is.
_ODD = re.compile("[\u00a1-\u024f]")
_MIN_ODD, _ODD_SHARE = 10, 0.6
#: Arabic letters that are repeated as no word has them: glyphs that only stretch a line have the code of a letter.
_STRETCHED = re.compile(r"([\u0620-\u063f\u0641-\u064a])\1\1")
_MIN_STRETCHED = 4
#: Chinese characters, those of them that are hardly in use, and the number and share of these that no text has.
_CHINESE, _RARE = re.compile("[\u3400-\u9fff]"), re.compile("[\u3400-\u4dbf]")
_MIN_RARE, _RARE_SHARE = 3, 0.08
#: English and German words as they are after the loss of a ligature.
_LOST = re.compile(
    r"\b(?:di erent|e cient(?:ly)?|su cient(?:ly)?|speci c(?:ally|ation)?|signi cant(?:ly)?|o ce|o cial|"
    r"e ect(?:s|ive)?|a ect(?:s|ed)?|de ne[ds]?|de nition|identi ed|classi cation|con g(?:uration)?|bene ts?|pro ts?|"
    r"pro le|o er(?:s|ed)?|di cult(?:y)?|scienti c|ful l|nal(?:ly)?|rst|nd|eld|P icht|Au age|gri)\b"
)
_MIN_LOST = 4
#: The length of a word in Latin letters that no language has, and their number on a page without spaces.
_LONG = re.compile(r"[^\W\d_]{35,}")
_MIN_LONG = 3


def damage(text: str, letters: int, unmapped: int, doubtful: int = 0) -> str:
    """Return what is wrong with the text of a page, or an empty string.

    ``letters`` is the number of letters on the page, ``unmapped`` that of letters without a character, ``doubtful``
    that of letters whose characters are a guess: if they form words, the guess is right.
    """
    share = _pair_share(text)
    no_words = share is not None and share < _MIN_SHARE
    wrong = unmapped + (doubtful if share is None or no_words else 0)
    few = 0 < letters < _MIN_LETTERS and unmapped >= _FEW_UNMAPPED * letters
    few = few or (doubtful > 1 and not any(map(str.isalnum, text)))
    if few or (letters >= _MIN_LETTERS and wrong >= _MAX_UNMAPPED * letters):
        return "a font has no map of characters"
    if no_words or _has_odd_letters(text):
        return "its letters form no words"
    if len(_LOST.findall(text)) >= _MIN_LOST and " ff" not in text:
        return "its ligatures are lost"
    if len([word for word in _LONG.findall(text) if word.isascii()]) >= _MIN_LONG:
        return "its spaces are lost"
    return ""


def _has_odd_letters(text: str) -> bool:
    """Return whether a text is in another code than it seems to be."""
    odd = len(_ODD.findall(text))
    solid = sum(1 for letter in text if not letter.isspace() and not letter.isdigit())
    rare = len(_RARE.findall(text))
    return (
        (odd >= _MIN_ODD and odd >= _ODD_SHARE * solid)
        or len(_STRETCHED.findall(text)) >= _MIN_STRETCHED
        or (rare >= _MIN_RARE and rare >= _RARE_SHARE * len(_CHINESE.findall(text)))
    )


def _pair_share(text: str) -> float | None:
    """Return the share of frequent pairs among the pairs of letters; None if there are too few letters to know."""
    plain = unicodedata.normalize("NFD", text)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = [word.lower() for word in re.findall(r"[^\W_]+", plain) if word.isascii()]
    pairs = [word[at : at + 2] for word in words if _WORD.fullmatch(word) for at in range(len(word) - 1)]
    return sum(pair in _FREQUENT for pair in pairs) / len(pairs) if len(pairs) >= _MIN_PAIRS else None

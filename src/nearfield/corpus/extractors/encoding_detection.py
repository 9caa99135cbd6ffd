"""Detection of the encoding of bytes that are not UTF-8: the language in which they read best decides.

Each encoding is scored with the languages that were written in it. Every character that is not ASCII adds the logarithm
of its probability: high for a frequent letter of the language, low for a letter of another one, and lower still for a
symbol or a capital within a word. Common words in ASCII letters show the language of texts in Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from nearfield.corpus.extractors.languages import (
    HANGUL,
    KANJI,
    LANGUAGES,
    MULTIBYTE,
    SIMPLIFIED,
    TRADITIONAL,
    LanguageProfile,
)

#: Bytes that are scored, in pieces from the whole text.
_SAMPLE = 2**13
#: Scores of a character: a symbol of typography at its place, any other character, a capital or symbol within a word.
_SYMBOL, _FOREIGN, _MISPLACED = -2.5, -6.0, -8.0
#: Mean score per character above which a reading is a text at all, and below which it is noise.
_LEGIBLE = -4.7
#: Lead of the best reading over the next one, and characters that are not ASCII, above which the guess is sure.
_LEAD, _CHARACTERS = 8.0, 8
#: Encodings of texts that have quotes and dashes only beside ASCII.
_SYMBOLS_ALONE = ("cp1252", "mac_roman")
#: Letters that show a script other than Latin.
_MIN_LETTERS = 3
#: What a common word adds, and its maximum for all words.
_WORD, _MAX_WORDS = 1.5, 24.0
#: What rarer encodings lose.
_RARE = {
    "mac_roman": 2.0, "cp850": 2.5, "cp437": 2.6, "iso8859_15": 2.0, "cp852": 3.0, "mac_latin2": 3.0, "iso8859_2": 0.5,
    "koi8_r": 0.5, "koi8_u": 0.6, "cp866": 1.0, "iso8859_5": 2.0, "mac_cyrillic": 2.0, "iso8859_16": 4.0, "cp857": 3.0,
    "mac_turkish": 3.0, "mac_romanian": 3.0, "cp737": 3.0, "mac_greek": 3.0, "cp1258": 4.0, "iso8859_9": 0.5,
    "iso8859_13": 3.0,
}  # fmt: skip
#: Bytes of the shortest UTF-16 text that is recognised; the share of usual characters in UTF-16, and in a sure guess.
_MIN_UTF16, _PLAUSIBLE, _SURE = 8, 0.5, 0.8
#: Characters of alphabets, kana and punctuation.
_USUAL = re.compile(
    "[\\t\\n\\r\\x20-\\x7e\\xa0-\\u017f\\u0370-\\u052f\\u0590-\\u06ff\\u0900-\\u097f\\u0e00-\\u0e5f\\u1e00-\\u1eff"
    "\\u2010-\\u2026\\u20ac\\u3000-\\u3020\\u3041-\\u30ff\\uff01-\\uff5e]"
)
#: Letters that are a word.
_SINGLE_LETTERS = frozenset("àáâèéìóòôåöøőÀÁÈÉÓ")
_PUNCTUATION = frozenset("«»„“”‚‘’‹›–—…·•€£§°©®™¿¡ªº½¼¾²³×±µ\xa0\xad¨†´№")
_ASCII_WORD = re.compile(rb"(?<![\x80-\xff\w])[a-z]+(?![\x80-\xff\w])")
#: More consonants in a row than words have, of Cyrillic and Greek.
_CONSONANTS = re.compile("[бвгджзйклмнпрстфхцчшщ]{5,}|[βγδζθκλμνξπρσςτφχψ]{5,}", re.IGNORECASE)
_ESCAPES = (
    (re.compile(rb"\x1b\$[@B]|\x1b\([IJ]"), "iso2022_jp_ext"),
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
)


@dataclass(frozen=True)
class EncodingGuess:
    """A guessed encoding, and whether no other one is likely."""

    encoding: str
    sure: bool


@dataclass(frozen=True)
class _Reading:
    encoding: str
    score: float
    mean: float
    text: str


def escaped_encoding(data: bytes) -> str | None:
    """Return the encoding of a text in ASCII bytes with escape sequences, such as ISO-2022-JP; None if it has none."""
    if b"\x1b$" not in data and b"\x1b(" not in data:
        return None
    for pattern, encoding in _ESCAPES:
        if pattern.search(data) and _strict(data, encoding) is not None:
            return encoding
    return None


def guess_encoding(data: bytes) -> EncodingGuess | None:
    """Return the encoding of bytes that are neither UTF-8 nor UTF-16; None if they read as noise in every encoding."""
    sample = _sample(data)
    readings = sorted(_readings(sample), key=lambda reading: -reading.score)
    # An encoding may read the sample, and not all of the data.
    best = next((item for item in readings if _strict(data, item.encoding) is not None), None)
    if best is None or best.mean < _LEGIBLE:
        return None
    rival = next((item for item in readings if item.text != best.text), None)
    characters = sum(1 for sign in best.text if not sign.isascii())
    lead = best.score - rival.score if rival is not None else _LEAD
    return EncodingGuess(best.encoding, lead >= _LEAD and characters >= _CHARACTERS)


def guess_utf16(data: bytes) -> EncodingGuess | None:
    """Return the byte order of UTF-16 without a byte order mark; None if the data is something else."""
    part = data[: _SAMPLE - _SAMPLE % 2]
    if len(data) % 2 or len(part) < _MIN_UTF16:
        return None
    shares = {encoding: _plausible_share(part, encoding) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda encoding: shares[encoding])
    if shares[best] < _PLAUSIBLE or min(shares.values()) > shares[best] - _PLAUSIBLE / 2:
        return None
    return EncodingGuess(best, shares[best] > _SURE)


def _plausible_share(part: bytes, encoding: str) -> float:
    text = part.decode(encoding, "replace")
    common = KANJI | SIMPLIFIED | TRADITIONAL | HANGUL
    return sum(bool(_USUAL.match(sign)) or sign in common for sign in text) / len(text)


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _sample(data: bytes) -> bytes:
    """Return whole lines, or pieces, with bytes that are not ASCII, from all parts of the data."""
    if len(data) <= _SAMPLE:
        return data
    pieces, size = [], 0
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    for line in lines[:: max(1, len(lines) // 200)]:
        start = max(0, next(at for at, byte in enumerate(line) if byte > 127) - 200)
        # A piece begins and ends between words, so that no character of several bytes is split.
        piece = line if len(line) < 2000 else line[start : start + 2000].partition(b" ")[2].rpartition(b" ")[0]
        pieces.append(piece)
        size += len(piece)
        if size > _SAMPLE:
            break
    return b"\n".join(pieces) or data[:_SAMPLE]


def _readings(sample: bytes) -> Iterator[_Reading]:
    words = _ASCII_WORD.findall(sample.lower())
    names = [word.decode() for word in words[:2000]]
    texts: dict[str, str | None] = {}
    for language in LANGUAGES.values():
        bonus = min(_MAX_WORDS, _WORD * sum(name in language.words for name in names))
        for encoding in language.encodings:
            if encoding not in texts:
                texts[encoding] = _strict(sample, encoding)
            text = texts[encoding]
            if text is not None:
                scores = _letter_scores(text, language)
                enough = len(scores) >= (1 if language.words else _MIN_LETTERS)
                if enough and (encoding in _SYMBOLS_ALONE or re.search(r"[^\W\d_a-zA-Z]", text)):
                    total = sum(scores) - _RARE.get(encoding, 0.0)
                    total += 0.0 if language.words else _MISPLACED * len(_CONSONANTS.findall(text))
                    yield _Reading(encoding, total + bonus, total / len(scores), text)
    yield from _multibyte_readings(sample)


@cache
def _weights(letters: str) -> dict[str, float]:
    """Return the scores of letters by their rank; capitals are rarer."""
    scores = {letter: -1.2 - 0.09 * rank for rank, letter in enumerate(letters)}
    return {**{letter.upper(): score - 0.4 for letter, score in scores.items() if len(letter.upper()) == 1}, **scores}


def _letter_scores(text: str, language: LanguageProfile) -> list[float]:
    """Return the score of each character that is not ASCII."""
    weights = _weights(language.letters)
    latin = bool(language.words)
    scores = []
    for match in re.finditer(r"[^\x00-\x7f]", text):
        at, sign = match.start(), match[0]
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if sign.isalpha() or sign in weights:
            scores.append(_letter_score(sign, before, after, weights, latin=latin))
        elif "\x80" <= sign < "\xa0" or (not sign.isprintable() and sign not in _PUNCTUATION):
            scores.append(_MISPLACED)
        elif sign in "’´\xad·":
            scores.append(_SYMBOL if before.isalpha() or after.isalpha() or before == " " else _FOREIGN)
        elif sign in _PUNCTUATION:
            within = before.isalpha() and after.isalpha() and sign not in "—–"
            scores.append(_MISPLACED if within else _SYMBOL)
        else:
            scores.append(_MISPLACED if before.isalpha() or after.isalpha() else _FOREIGN)
    return scores


def _letter_score(sign: str, before: str, after: str, weights: dict[str, float], *, latin: bool) -> float:
    score = weights.get(sign, _FOREIGN)
    if (sign.isupper() and before.islower()) or (sign.islower() and after.isupper()):
        return _MISPLACED
    if latin and (before.isdigit() or after.isdigit()):
        score += _FOREIGN / 2
    if not before.isalpha() and not after.isalpha() and not (latin and sign in _SINGLE_LETTERS):
        score += _FOREIGN / 2
    if not latin and (_is_ascii_letter(before) or _is_ascii_letter(after)):
        score += _FOREIGN  # letters of two scripts in one word
    if latin and before.isalpha() and not before.isascii() and before not in weights:
        score += _SYMBOL
    if latin and (before.isalpha() or after.isalpha()) and not (_is_ascii_letter(before) or _is_ascii_letter(after)):
        score += _FOREIGN / 2  # Latin words have letters of ASCII too
    return score


def _is_ascii_letter(sign: str) -> bool:
    return sign.isascii() and sign.isalpha()


# -- encodings of several bytes per character ----------------------------------------------------------------------


def _multibyte_readings(sample: bytes) -> Iterator[_Reading]:
    commons: dict[str, Sequence[frozenset[str]]] = {
        "cp932": (KANJI,), "euc_jp": (KANJI,), "gb18030": (SIMPLIFIED,), "big5": (TRADITIONAL,), "cp949": (HANGUL,),
    }  # fmt: skip
    for encoding in MULTIBYTE:
        text = _strict(sample, encoding)
        if text is None:
            continue
        japanese = encoding in ("cp932", "euc_jp")
        scores = list(_cjk_scores(text, commons[encoding][0], kana=japanese, hangul=encoding == "cp949"))
        if scores:
            total = sum(scores)
            yield _Reading(encoding, total - (0.5 if encoding == "euc_jp" else 0.0), total / len(scores), text)


def _cjk_scores(text: str, common: frozenset[str], *, kana: bool, hangul: bool) -> Iterator[float]:
    """Yield the score of each character that is not ASCII, in a text of Chinese, Japanese or Korean."""
    for match in re.finditer(r"[^\x00-\x7f]", text):
        sign, at = match[0], match.start()
        mixed = _is_ascii_letter(text[at - 1 : at]) and _is_ascii_letter(text[at + 1 : at + 2])
        yield _cjk_score(sign, common, kana=kana, hangul=hangul) + (_FOREIGN if mixed else 0.0)


def _cjk_score(sign: str, common: frozenset[str], *, kana: bool, hangul: bool) -> float:
    if sign in common:
        return -2.0
    if "\u3041" <= sign <= "\u30ff":
        return -1.5 if kana else _FOREIGN
    if "\u3000" <= sign <= "\u3020" or "\uff01" <= sign <= "\uff5e" or sign in _PUNCTUATION:
        return -2.0
    if "\uac00" <= sign <= "\ud7a3":
        return -4.5 if hangul else _MISPLACED
    if "\u4e00" <= sign <= "\u9fff":
        return _MISPLACED if hangul else -5.0
    return _MISPLACED

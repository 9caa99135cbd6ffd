"""Keyword index: BM25 search over the chunks of a manifest, with SQLite's FTS5.

The index stores no texts; it reads them from the table ``chunks`` through a view. A chunk is therefore added to the
index in the transaction that adds its row, and removed from the index before its row.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

from nearfield.corpus.manifest.sqlite import SharedConnection
from nearfield.errors import InputError, nearest
from nearfield.stores import Record
from nearfield.stores.filters import BUILT_IN, All, Compare, Either, Filter, Not, balanced

Tokenizer = Literal["porter", "unicode61", "trigram"]
#: Words are runs of letters, numbers and marks. ``words`` splits queries in the same way.
_WORDS = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
TOKENIZERS: dict[str, str] = {"porter": f"porter {_WORDS}", "unicode61": _WORDS, "trigram": "trigram"}
#: Languages without spaces between words.
_UNSPACED = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo", "dz")
#: Runs of letters of scripts without spaces: Thai, Lao, Tibetan, Burmese, Khmer, kana and Chinese characters.
_UNSPACED_RUN = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
#: The name of ``split_unspaced`` in SQL.
_SPLIT = "nearfield_split_unspaced"
_INDEX = """
CREATE VIEW IF NOT EXISTS embedded(rowid, text) AS
  SELECT rowid, {split}(CASE context WHEN '' THEN text ELSE context || char(10) || text END) FROM chunks{where};
CREATE VIRTUAL TABLE keywords USING fts5(text, content='embedded', content_rowid='rowid', tokenize="{tokenizer}");
CREATE VIRTUAL TABLE terms USING fts5vocab('keywords', 'row');
"""
#: The condition of chunks of text, where the index leaves out those of media.
_TEXT_ONLY = " WHERE json_extract(payload, '$.kind') IS NULL"
_RECORD = "rowid, id, document, version, ordinal, text, fields, payload"
#: The field whose values are those of all pages from the first to the last one of a chunk.
PAGE = "page"
_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
#: Maximum number of trigrams that replace a word of one or two characters.
_MAX_PREFIX_TERMS = 200
#: Maximum number of terms of a query: a thousand take 0.3 s, and ten thousand 6 s (in 20,000 chunks).
_MAX_TERMS = 1000
#: From this number of chunks on, words that more than half of the chunks contain are ignored.
_COMMON_WORDS_FROM = 1000
#: SQLite accepts 32,766 parameters since version 3.32.
_MAX_VALUES = 30_000


class KeywordIndex:
    """The keyword index of a manifest.

    ``tokenizer`` says how texts become terms; without it, ``language`` does. English: word stems (Porter 1980).
    Languages without spaces between words: trigrams of characters. All others: words without accents. In an index of
    words, text in a script without spaces becomes pairs of characters, whatever the language of the collection.
    """

    def __init__(
        self,
        connection: sqlite3.Connection | SharedConnection,
        *,
        language: str = "en",
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._connection = connection
        self._configured: str = tokenizer or tokenizer_of(language)
        if self._configured not in TOKENIZERS:
            raise InputError(f"Unknown tokenizer {self._configured!r}. {nearest(self._configured, TOKENIZERS)}")
        if isinstance(connection, SharedConnection):
            connection.configure(_add_function)
        else:
            _add_function(connection)

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer of the index; None if there is no index."""
        row = self._connection.execute("SELECT sql FROM sqlite_master WHERE name = 'keywords'").fetchone()
        return next((name for name, spec in TOKENIZERS.items() if row and f'tokenize="{spec}"' in row[0]), None)

    @property
    def splits_unspaced(self) -> bool:
        """Whether text in scripts without spaces is split; it is not in indexes that version 0.1 created."""
        row = self._connection.execute("SELECT sql FROM sqlite_master WHERE name = 'embedded'").fetchone()
        return bool(row) and _SPLIT in row[0]

    @property
    def _is_current(self) -> bool:
        return self.tokenizer == self._configured and (self._configured == "trigram" or self.splits_unspaced)

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Create the index from all chunks, unless there is one that would be the same."""
        if self._is_current:
            return
        self._connection.execute("SAVEPOINT keywords")
        try:
            where = _TEXT_ONLY if self._leaves_out_media else ""
            self.drop()
            for statement in self._statements(where).split(";"):
                self._connection.execute(statement)
            self.rebuild()
        except BaseException:
            self._connection.execute("ROLLBACK TO keywords")
            raise
        finally:
            self._connection.execute("RELEASE keywords")

    def _statements(self, where: str) -> str:
        split = "" if self._configured == "trigram" else _SPLIT
        return _INDEX.format(tokenizer=TOKENIZERS[self._configured], split=split, where=where)

    @property
    def _leaves_out_media(self) -> bool:
        row = self._connection.execute("SELECT sql FROM sqlite_master WHERE name = 'embedded'").fetchone()
        return bool(row) and row[0].rstrip().endswith(_TEXT_ONLY)

    def leave_out_media(self) -> None:
        """Leave chunks of media out of the index, which counts texts. There is none yet when it is first called."""
        if not self._leaves_out_media:
            split = _SPLIT if self.splits_unspaced else ""
            view = _INDEX.format(tokenizer="", split=split, where=_TEXT_ONLY).split(";")[0]
            self._connection.execute("DROP VIEW IF EXISTS embedded")
            self._connection.execute(view)

    def drop(self) -> None:
        """Remove the index."""
        for kind, name in (("TABLE", "terms"), ("TABLE", "keywords"), ("VIEW", "embedded")):
            self._connection.execute(f"DROP {kind} IF EXISTS {name}")

    def put(self, rows: Iterable[tuple[int, str]]) -> None:
        """Add chunks: pairs of row id and embedded text (context, line break, text)."""
        split = self.splits_unspaced
        self._connection.executemany(
            "INSERT INTO keywords(rowid, text) VALUES (?, ?)",
            [(row, split_unspaced(text) if split else text) for row, text in rows],
        )

    def remove(self, rows: Iterable[int]) -> None:
        """Remove chunks. Their rows must still be in the table ``chunks``."""
        self._connection.executemany(
            "INSERT INTO keywords(keywords, rowid, text) SELECT 'delete', rowid, text FROM embedded WHERE rowid = ?",
            [(row,) for row in rows],
        )

    def rebuild(self) -> None:
        """Rebuild the index from the chunks."""
        self._connection.execute("INSERT INTO keywords(keywords) VALUES ('rebuild')")

    def optimize(self) -> None:
        """Merge the segments of many small writes: the index becomes smaller and faster."""
        self._connection.execute("INSERT INTO keywords(keywords) VALUES ('optimize')")

    def is_consistent(self) -> bool:
        """Return whether the index matches the chunks; all texts are read and compared."""
        try:
            self._connection.execute("INSERT INTO keywords(keywords, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            if "malformed" in str(error):
                return False
            raise
        return True

    def size(self) -> int:
        """Return the size of the index in bytes, without the texts."""
        blocks = self._connection.execute("SELECT coalesce(sum(length(block)), 0) FROM keywords_data").fetchone()[0]
        sizes = self._connection.execute("SELECT coalesce(sum(length(sz) + 8), 0) FROM keywords_docsize").fetchone()[0]
        return int(blocks) + int(sizes)

    # -- reading -----------------------------------------------------------------------------------------------

    def search(self, query: str, k: int, where: Filter | None = None) -> list[tuple[int, float]]:
        """Return row ids and scores of the ``k`` best chunks for a query, the best first; ties in the order of rows.

        Any text is a query: chunks with any of its words match. The score is BM25 (Robertson & Zaragoza 2009; k1 1.2,
        b 0.75); the weight of a word is never below zero. In a large index, words that more than half of the chunks
        contain are ignored. Only the first thousand distinct words (or trigrams) of the query count.

        Raises:
            InputError: the filter has more conditions than SQLite accepts.
        """
        match = self._match(query)
        if not match:
            return []
        sql, values = filter_to_sql(where)
        joined = "" if where is None else f"JOIN chunks ON chunks.rowid = keywords.rowid AND {sql}"
        rows = self._connection.execute(
            f"SELECT keywords.rowid, -bm25(keywords) AS score FROM keywords {joined} WHERE keywords MATCH ? "
            "ORDER BY score DESC, keywords.rowid LIMIT ?",
            (*values, match, k),
        )
        return [(int(row), float(score)) for row, score in rows]

    def records(self, rows: Sequence[int]) -> dict[int, Record]:
        """Return the chunks of row ids, without vectors."""
        result = self._connection.execute(
            f"SELECT {_RECORD} FROM chunks WHERE rowid IN (SELECT value FROM json_each(?))", (json.dumps(list(rows)),)
        )
        return {
            row: Record(key, document, version, ordinal, text, json.loads(fields), json.loads(payload))
            for row, key, document, version, ordinal, text, fields, payload in result.fetchall()
        }

    def _match(self, query: str) -> str:
        """Return a query in FTS5's syntax: terms, any of which may match."""
        return " OR ".join(self._without_common(list(self.terms(query).values())))

    def terms(self, query: str) -> dict[str, str]:
        """Return the distinct terms of a query, and each of them in FTS5's syntax; at most a thousand."""
        query_words = words(query)[:_MAX_TERMS]
        if self.tokenizer == "trigram":
            trigrams = (term for word in query_words for term in self._trigrams(word.casefold()))
            return {term: f'"{term}"' for term in islice(_distinct(trigrams), _MAX_TERMS)}
        if self.splits_unspaced:
            parts = (part for word in query_words for part in _unspaced_terms(word))
            return dict(islice(parts, _MAX_TERMS))
        return {word: f'"{word}"' for word in query_words}

    def _without_common(self, terms: list[str]) -> list[str]:
        """Return terms without those in more than half of many chunks: they weigh nothing and take most of the time."""
        total = self.count()
        if total < _COMMON_WORDS_FROM:
            return terms
        half = total // 2
        return [term for term in terms if self.count_with(term, half + 1) <= half] or terms

    def _trigrams(self, word: str) -> list[str]:
        if len(word) >= 3:
            return [word[start : start + 3] for start in range(len(word) - 2)]
        rows = self._connection.execute(
            "SELECT term FROM terms WHERE term >= ? AND term < ? ORDER BY doc DESC, term LIMIT ?",
            (word, word + "\U0010ffff", _MAX_PREFIX_TERMS),
        )
        return [term.replace('"', '""') for (term,) in rows]

    # -- statistics --------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return the number of chunks."""
        return int(self._connection.execute("SELECT count(*) FROM keywords_docsize").fetchone()[0])

    def count_with(self, term: str, limit: int) -> int:
        """Return the number of chunks with a term in FTS5's syntax, up to a limit."""
        sql = "SELECT count(*) FROM (SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT ?)"
        return int(self._connection.execute(sql, (term, limit)).fetchone()[0])

    def with_term(self, term: str, ids: Sequence[str]) -> list[str]:
        """Return the ids of those of these chunks that have a term in FTS5's syntax."""
        rows = self._connection.execute(
            "SELECT chunks.id FROM chunks JOIN keywords ON keywords.rowid = chunks.rowid "
            "WHERE chunks.id IN (SELECT value FROM json_each(?)) AND keywords MATCH ?",
            (json.dumps(list(ids)), term),
        )
        return [key for (key,) in rows]

    def sample_ids(self, count: int, kinds: Sequence[str] = ()) -> list[str]:
        """Return the ids of ``count`` chunks in the order of their ids, which are digests: a random sample.

        They are texts; with ``kinds``, media of these kinds.
        """
        sql = "SELECT id FROM chunks WHERE json_extract(payload, '$.kind') IS NULL ORDER BY id LIMIT ?"
        if kinds:
            chosen = "json_extract(payload, '$.kind') IN (SELECT value FROM json_each(?))"
            sql = f"SELECT id FROM chunks WHERE {chosen} ORDER BY id LIMIT ?"
        values = (json.dumps(list(kinds)), count) if kinds else (count,)
        return [key for (key,) in self._connection.execute(sql, values)]

    def count_kind(self, kind: str) -> int:
        """Return the number of chunks of a kind."""
        sql = "SELECT count(*) FROM chunks WHERE coalesce(json_extract(payload, '$.kind'), 'text') = ?"
        return int(self._connection.execute(sql, (kind,)).fetchone()[0])


def _distinct(terms: Iterable[str]) -> Iterator[str]:
    """Yield each term once."""
    known: set[str] = set()
    for term in terms:
        if term not in known:
            known.add(term)
            yield term


def tokenizer_of(language: str) -> Tokenizer:
    """Return the tokenizer for a language (``en``, ``pt-BR``)."""
    code = language.lower().replace("_", "-").partition("-")[0]
    if code in _UNSPACED:
        return "trigram"
    return "porter" if code == "en" else "unicode61"


def split_unspaced(text: str) -> str:
    """Return a text in which letters of scripts without spaces are split into overlapping pairs, with spaces between.

    The last letter of a run follows alone, so that each letter begins a term. Other text stays unchanged.
    """
    return _UNSPACED_RUN.sub(lambda run: f" {' '.join(_pairs(run[0]))} {run[0][-1]} ", text)


def _pairs(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(len(run) - 1)]


def _unspaced_terms(word: str) -> Iterator[tuple[str, str]]:
    """Yield the terms of a query's word, and each of them in FTS5's syntax; one letter matches all pairs with it."""
    end = 0
    for run in _UNSPACED_RUN.finditer(word):
        if before := word[end : run.start()]:
            yield before, f'"{before}"'
        for pair in _pairs(run[0]) or [run[0]]:
            yield pair, f'"{pair}"' + ("*" if len(pair) == 1 else "")
        end = run.end()
    if rest := word[end:]:
        yield rest, f'"{rest}"'


def words(text: str) -> list[str]:
    """Return the distinct words of a text: runs of letters, numbers and marks."""
    cleaned = (char if _in_word(char) else " " for char in unicodedata.normalize("NFC", text))
    return list(dict.fromkeys("".join(cleaned).split()))


def _in_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Co"


def filter_to_sql(where: Filter | None, *, first_page: bool = False) -> tuple[str, list[str]]:
    """Return a filter as an SQL condition on the table ``chunks``, which is never NULL, and its parameters.

    It matches the same chunks as ``filters.matches``. Parameters are JSON, so that SQLite converts both sides of a
    comparison in the same way. A condition on the page holds if it does for any page of a chunk; with ``first_page``,
    if it does for the first one, as in a store.

    Raises:
        InputError: it has more conditions than SQLite accepts.
    """
    values: list[str] = []
    condition = "1" if where is None else _sql(where, values, () if first_page else (PAGE,))
    if len(values) > _MAX_VALUES:
        raise InputError("The filter has too many conditions: put values of one field into one 'in'.", param="where")
    return condition, values


def _sql(where: Filter, values: list[str], ranges: Sequence[str]) -> str:
    if isinstance(where, All):
        return _joined([_sql(part, values, ranges) for part in where.parts], "AND") or "1"
    if isinstance(where, Either):
        return _joined([_sql(part, values, ranges) for part in where.parts], "OR") or "0"
    if isinstance(where, Not):
        return f"NOT {_sql(where.part, values, ranges)}"
    return _compared_range(where, values) if where.field in ranges else _compared(where, values)


def _joined(parts: Sequence[str], word: str) -> str:
    return balanced(parts, lambda left, right: f"({left} {word} {right})") if parts else ""


def _compared(where: Compare, values: list[str]) -> str:
    if where.field in BUILT_IN:
        value = f"chunks.{where.field}"
    else:
        value = "(SELECT value FROM json_each(chunks.fields) WHERE key = ?)"
        values.append(where.field)
    if where.op == "exists":
        return f"({value} IS NOT NULL)"
    if where.op in ("eq", "in"):
        values.append(json.dumps(where.value if where.op == "in" else [where.value]))
        return f"coalesce({value} IN (SELECT value FROM json_each(?)), 0)"
    values.append(json.dumps(where.value))
    return f"coalesce({value} {_OPERATORS[where.op]} json_extract(?, '$'), 0)"


def _compared_range(where: Compare, values: list[str]) -> str:
    """Return the condition that one of the pages of a chunk meets; ``last_page`` is left out if it is the first."""
    first = f"(SELECT value FROM json_each(chunks.fields) WHERE key = '{where.field}')"
    last = f"coalesce(json_extract(chunks.payload, '$.last_{where.field}'), {first})"
    if where.op == "exists":
        return f"({first} IS NOT NULL)"
    if where.op in ("eq", "in"):
        values.append(json.dumps(where.value if where.op == "in" else [where.value]))
        return f"EXISTS (SELECT 1 FROM json_each(?) WHERE value BETWEEN {first} AND {last})"
    values.append(json.dumps(where.value))
    return f"coalesce({last if where.op in ('gt', 'gte') else first} {_OPERATORS[where.op]} json_extract(?, '$'), 0)"


def _add_function(raw: sqlite3.Connection) -> None:
    raw.create_function(_SPLIT, 1, split_unspaced, deterministic=True)

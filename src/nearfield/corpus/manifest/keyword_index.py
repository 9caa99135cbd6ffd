"""Keywords: BM25 over the chunks of a manifest, by SQLite's FTS5, inside the manifest's own transactions.

The index holds no texts: it reads them from the table ``chunks``, through a view. So a chunk is put into the index in
the transaction that adds its row, and is removed from it before its row goes.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from nearfield.corpus.manifest.sqlite import SharedConnection
from nearfield.errors import InputError, nearest
from nearfield.stores import Record
from nearfield.stores.filters import BUILT_IN, All, Compare, Either, Filter, Not

Tokenizer = Literal["porter", "unicode61", "trigram"]
#: Words are runs of letters, numbers and marks, as ``words`` cuts queries too.
_WORDS = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
TOKENIZERS: dict[str, str] = {"porter": f"porter {_WORDS}", "unicode61": _WORDS, "trigram": "trigram"}
#: Languages that put no spaces between words.
_UNSPACED = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo", "dz")
_INDEX = """
CREATE VIEW IF NOT EXISTS embedded(rowid, text) AS
  SELECT rowid, CASE context WHEN '' THEN text ELSE context || char(10) || text END FROM chunks;
CREATE VIRTUAL TABLE keywords USING fts5(text, content='embedded', content_rowid='rowid', tokenize="{tokenizer}");
CREATE VIRTUAL TABLE terms USING fts5vocab('keywords', 'row');
"""
_RECORD = "rowid, id, document, version, ordinal, text, fields, payload"
_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
#: Terms of three characters that stand for one of two.
_STARTS = 200
#: Chunks from which on words that more than half of them have are passed over.
_MANY = 1000
#: SQLite takes 32,766 parameters since 3.32.
_MOST_VALUES = 30_000


class KeywordIndex:
    """The keyword index of a manifest.

    ``language`` chooses how texts become terms, where ``tokenizer`` does not say: English ones by their stems (Porter
    1980), those without spaces between words by three characters at a time, others by words without their accents.
    """

    def __init__(
        self,
        connection: sqlite3.Connection | SharedConnection,
        *,
        language: str = "en",
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._connection = connection
        self._wanted: str = tokenizer or tokenizer_of(language)
        if self._wanted not in TOKENIZERS:
            raise InputError(f"Unknown tokenizer {self._wanted!r}. {nearest(self._wanted, TOKENIZERS)}")

    @property
    def tokenizer(self) -> str | None:
        """How the index there is cuts texts; None where there is none."""
        found = self._connection.execute("SELECT sql FROM sqlite_master WHERE name = 'keywords'").fetchone()
        told = (name for name, spec in TOKENIZERS.items() if found and f'tokenize="{spec}"' in found[0])
        return next(told, None)

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the index of all chunks there are; nothing happens where it is there and cuts texts alike."""
        if self.tokenizer == self._wanted:
            return
        self._connection.execute("SAVEPOINT keywords")
        try:
            self.drop()
            for statement in _INDEX.format(tokenizer=TOKENIZERS[self._wanted]).split(";"):
                self._connection.execute(statement)
            self.rebuild()
        except BaseException:
            self._connection.execute("ROLLBACK TO keywords")
            raise
        finally:
            self._connection.execute("RELEASE keywords")

    def drop(self) -> None:
        """Remove the index."""
        for kind, name in (("TABLE", "terms"), ("TABLE", "keywords"), ("VIEW", "embedded")):
            self._connection.execute(f"DROP {kind} IF EXISTS {name}")

    def put(self, rows: Iterable[tuple[int, str]]) -> None:
        """Add chunks: the row of each, and the text that it is embedded as (context, line break, text)."""
        self._connection.executemany("INSERT INTO keywords(rowid, text) VALUES (?, ?)", rows)

    def remove(self, rows: Iterable[int]) -> None:
        """Take chunks out, whose rows are still in the table."""
        self._connection.executemany(
            "INSERT INTO keywords(keywords, rowid, text) SELECT 'delete', rowid, text FROM embedded WHERE rowid = ?",
            [(row,) for row in rows],
        )

    def rebuild(self) -> None:
        """Make the index anew from the chunks."""
        self._connection.execute("INSERT INTO keywords(keywords) VALUES ('rebuild')")

    def tidy(self) -> None:
        """Merge the parts that many writes left, so that the index is small and quick."""
        self._connection.execute("INSERT INTO keywords(keywords) VALUES ('optimize')")

    def sound(self) -> bool:
        """Return whether the index says what the chunks say: each text is read and compared."""
        try:
            self._connection.execute("INSERT INTO keywords(keywords, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            if "malformed" in str(error):
                return False
            raise
        return True

    def size(self) -> int:
        """Return the bytes that the index takes beside the texts."""
        blocks = self._connection.execute("SELECT coalesce(sum(length(block)), 0) FROM keywords_data").fetchone()[0]
        sizes = self._connection.execute("SELECT coalesce(sum(length(sz) + 8), 0) FROM keywords_docsize").fetchone()[0]
        return int(blocks) + int(sizes)

    # -- reading -----------------------------------------------------------------------------------------------

    def search(self, query: str, k: int, where: Filter | None = None) -> list[tuple[int, float]]:
        """Return rows and scores of the ``k`` chunks that fit a query best, the best first; ties by row.

        Any text is a query: its words are looked for, any of them. The score is BM25 (Robertson & Zaragoza 2009; k1
        1.2, b 0.75), a word's weight never below zero. What has none of the words is not returned, nor, among many
        chunks, what has only words that more than half of them have.

        Raises:
            InputError: the filter has more conditions than SQLite takes.
        """
        match = self._match(query)
        if not match:
            return []
        told, values = condition(where)
        joined = "" if where is None else f"JOIN chunks ON chunks.rowid = keywords.rowid AND {told}"
        found = self._connection.execute(
            f"SELECT keywords.rowid, -bm25(keywords) AS score FROM keywords {joined} WHERE keywords MATCH ? "
            "ORDER BY score DESC, keywords.rowid LIMIT ?",
            (*values, match, k),
        )
        return [(int(row), float(score)) for row, score in found.fetchall()]

    def records(self, rows: Sequence[int]) -> dict[int, Record]:
        """Return the chunks of some rows, without vectors."""
        found = self._connection.execute(
            f"SELECT {_RECORD} FROM chunks WHERE rowid IN (SELECT value FROM json_each(?))", (json.dumps(list(rows)),)
        )
        return {
            row: Record(key, document, version, ordinal, text, json.loads(fields), json.loads(payload))
            for row, key, document, version, ordinal, text, fields, payload in found.fetchall()
        }

    def _match(self, query: str) -> str:
        """Write a query as FTS5 reads it: terms in quotes, any of which may be there."""
        terms = words(query)
        if self.tokenizer == "trigram":
            terms = [term for word in terms for term in self._trigrams(word.casefold())]
        return " OR ".join(f'"{term}"' for term in self._telling(list(dict.fromkeys(terms))))

    def _telling(self, terms: list[str]) -> list[str]:
        """Leave out terms that more than half of many chunks have: they weigh nothing, and take most of the time."""
        total = int(self._connection.execute("SELECT count(*) FROM keywords_docsize").fetchone()[0])
        if total < _MANY:
            return terms
        counted = "SELECT count(*) FROM (SELECT 1 FROM keywords WHERE keywords MATCH ? LIMIT ?)"
        most = total // 2
        kept = [
            term for term in terms if self._connection.execute(counted, (f'"{term}"', most + 1)).fetchone()[0] <= most
        ]
        return kept or terms

    def _trigrams(self, word: str) -> list[str]:
        if len(word) >= 3:
            return [word[start : start + 3] for start in range(len(word) - 2)]
        found = self._connection.execute(
            "SELECT term FROM terms WHERE term >= ? AND term < ? ORDER BY doc DESC, term LIMIT ?",
            (word, word + "\U0010ffff", _STARTS),
        )
        return [term.replace('"', '""') for (term,) in found.fetchall()]


def tokenizer_of(language: str) -> Tokenizer:
    """Return how texts of a language (``en``, ``pt-BR``) become terms."""
    code = language.lower().replace("_", "-").partition("-")[0]
    if code in _UNSPACED:
        return "trigram"
    return "porter" if code == "en" else "unicode61"


def words(text: str) -> list[str]:
    """Return a text's words, each once: runs of letters, numbers and marks."""
    kept = (char if _in_word(char) else " " for char in unicodedata.normalize("NFC", text))
    return list(dict.fromkeys("".join(kept).split()))


def _in_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Co"


def condition(where: Filter | None) -> tuple[str, list[Any]]:
    """Write a filter as SQL over the table ``chunks``: the condition, which is never NULL, and its values.

    It holds where ``filters.matches`` does. Values go as JSON, for both sides of a comparison are then read alike.

    Raises:
        InputError: it has more conditions than SQLite takes.
    """
    values: list[Any] = []
    told = "1" if where is None else _sql(where, values)
    if len(values) > _MOST_VALUES:
        raise InputError("The filter has too many conditions: put values of one field into one 'in'.", param="where")
    return told, values


def _sql(where: Filter, values: list[Any]) -> str:
    if isinstance(where, All):
        return _joined([_sql(part, values) for part in where.parts], "AND") or "1"
    if isinstance(where, Either):
        return _joined([_sql(part, values) for part in where.parts], "OR") or "0"
    if isinstance(where, Not):
        return f"NOT {_sql(where.part, values)}"
    return _compared(where, values)


def _joined(parts: Sequence[str], word: str) -> str:
    """Join by halves: SQLite takes trees of a thousand levels at most."""
    if len(parts) < 2:
        return "".join(parts)
    middle = len(parts) // 2
    return f"({_joined(parts[:middle], word)} {word} {_joined(parts[middle:], word)})"


def _compared(where: Compare, values: list[Any]) -> str:
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

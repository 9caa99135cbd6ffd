"""Key files: read API keys from text or TOML, create new keys, append and remove them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import SettingsError, nearest
from nearfield.fileio.atomic import atomic_file
from nearfield.fileio.locks import waiting_lock
from nearfield.repeated_values import find_repeated
from nearfield.server.auth.api_key import HASH_PREFIX, SCOPES, ApiKey, key_digest
from nearfield.strict_toml import parse_toml

_TABLE = re.compile(r"^[ \t]*\[\[[ \t]*keys[ \t]*\]\]", re.M)
_COMMENT = re.compile(r"(^|\s)#.*")
_FIELDS = ("name", "hash", "key", "scopes", "models", "tokens_per_minute")


def read_key_file(file: Path) -> tuple[ApiKey, ...]:
    """Read a key file.

    A text file has one key a line, in plain or as ``sha256:<hex>``. A comment starts with ``#`` at the start of a line
    or after a space, so that a key may contain one. A file named ``*.toml`` has tables ``[[keys]]`` with ``name``,
    ``hash`` or ``key``, ``scopes``, ``models`` and ``tokens_per_minute``.

    Raises:
        SettingsError: the file cannot be read, or has no keys.
    """
    text = _read_text(file)
    keys = _parse(file, text)
    if not keys:
        raise SettingsError(f"The key file {file} has no keys: the server would be open to everybody.")
    return keys


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"The key file {file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"The key file {file} cannot be read: it is not UTF-8.") from error


def _parse(file: Path, text: str) -> tuple[ApiKey, ...]:
    keys = _parse_toml(file, text) if file.suffix == ".toml" else _parse_lines(file, text)
    _check_unique(file, keys)
    return tuple(keys)


def _check_unique(file: Path, keys: Sequence[ApiKey]) -> None:
    """Raise SettingsError if two keys have one name, or are one key: only the first would count."""
    for what, values in (("name", [key.name for key in keys]), ("key", [key.digest.hex() for key in keys])):
        value = find_repeated(values)
        if value is not None:
            first = values.index(value)
            repeated = values.index(value, first + 1)
            raise SettingsError(
                f"The key file {file} has one {what} twice: keys {first + 1} ({keys[first].name!r}) and {repeated + 1} "
                f"({keys[repeated].name!r}). Give each key its own."
            )


def create_key() -> tuple[str, str]:
    """Return a new random key, and its hash as ``sha256:<hex>`` to store in place of it."""
    key = "nf-" + secrets.token_urlsafe(32)
    return key, HASH_PREFIX + hashlib.sha256(key.encode()).hexdigest()


def append_key(file: Path, key: ApiKey, key_hash: str) -> None:
    """Append a key to a TOML file by its hash; a new file is readable by its owner only.

    Raises:
        SettingsError: a scope is unknown, the file has a key of that name, or it cannot be read or written.
    """
    if file.suffix != ".toml":
        raise SettingsError(f"{file} must be named *.toml: other key files have no names and scopes.")
    unknown = next((scope for scope in key.scopes if scope not in SCOPES), None)
    if unknown is not None:
        raise SettingsError(f"Unknown scope {unknown!r}. {nearest(unknown, SCOPES)}")
    values = {"name": key.name, "hash": key_hash, "scopes": list(key.scopes), "models": list(key.models)}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    lines += [f"tokens_per_minute = {key.tokens_per_minute}"] * (key.tokens_per_minute is not None)
    with _changing(file):
        text = _read_text(file) if file.exists() else ""  # it may have no keys yet
        if any(other.name == key.name for other in _parse(file, text)):
            raise SettingsError(f"{file} has a key with the name {key.name!r} already: choose another name.")
        gap = "\n" if text and not text.endswith("\n") else ""
        addition = gap + "\n".join(["[[keys]]", *lines, ""]) + "\n"
        _parse(file, text + addition)  # a name may have characters that TOML has not
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as out:
            out.write(addition)


def remove_key(file: Path, name: str) -> None:
    """Remove the key with a name from a TOML file; all other lines stay the same.

    Raises:
        SettingsError: the file has no key of that name, is not written as ``append_key`` does, or cannot be written.
    """
    with _changing(file):
        text = _read_text(file)
        names = [key.name for key in _parse(file, text)]
        if name not in names:
            raise SettingsError(f"The key file {file} has no key {name!r}. {nearest(name, names)}")
        number = names.index(name)
        starts = [match.start() for match in _TABLE.finditer(text)] + [len(text)]
        shorter = text[: starts[number]] + text[starts[number + 1] :] if len(starts) == len(names) + 1 else text
        if [key.name for key in _parse(file, shorter)] != names[:number] + names[number + 1 :]:
            raise SettingsError(f"The key {name!r} cannot be cut out of {file}: remove it with an editor.")
        with atomic_file(file, durable=True) as out:
            os.fchmod(out.fileno(), file.stat().st_mode & 0o777)
            out.write(shorter.encode())


@contextmanager
def _changing(file: Path) -> Iterator[None]:
    """Let one process at a time change a key file."""
    try:
        with waiting_lock(file.with_name(f".{file.name}.lock")):
            yield
    except OSError as error:
        raise SettingsError(f"The key file {file} cannot be written: {error.strerror or error}.") from error


def _parse_lines(file: Path, text: str) -> list[ApiKey]:
    keys = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [ApiKey(f"{file.name}:{number}", key_digest(key)) for number, key in keys if key]


def _parse_toml(file: Path, text: str) -> list[ApiKey]:
    try:
        tables = parse_toml(text).get("keys", [])
    except ValueError as error:
        raise SettingsError(f"The key file {file} is not valid TOML: {error}.") from error
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"The key file {file} must contain tables [[keys]].")
    return [_parse_table(file, number, table) for number, table in enumerate(tables, 1)]


def _parse_table(file: Path, number: int, table: Mapping[str, object]) -> ApiKey:
    """Parse one table; errors name the file, the key's number and the field."""

    def invalid(problem: str) -> SettingsError:
        return SettingsError(f"The key file {file}, key {number}: {problem}")

    unknown = next((name for name in table if name not in _FIELDS), None)
    if unknown is not None:
        raise invalid(f"unknown field {unknown!r}. {nearest(unknown, _FIELDS)}")
    secret = table.get("hash") or table.get("key")
    if not isinstance(secret, str) or ("hash" in table) == ("key" in table):
        raise invalid("give either hash = 'sha256:...' or key = '...'.")
    lists: dict[str, tuple[str, ...]] = {}
    for field_name, default in (("scopes", ["infer"]), ("models", ["*"])):
        values = table.get(field_name, default)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise invalid(f"{field_name} must be a list of texts.")
        lists[field_name] = tuple(values)
    unknown = next((scope for scope in lists["scopes"] if scope not in SCOPES), None)
    if unknown is not None:
        raise invalid(f"unknown scope {unknown!r}. {nearest(unknown, SCOPES)}")
    rate = table.get("tokens_per_minute")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or rate < 1):
        raise invalid(f"tokens_per_minute must be a whole number above 0, not {rate!r}.")
    name = str(table.get("name", f"{file.name}:{number}"))
    return ApiKey(name, key_digest(secret), lists["scopes"], lists["models"], rate)

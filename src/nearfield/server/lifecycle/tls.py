"""Certificates: checks whose messages name the file, and the date of expiry."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from nearfield.errors import SettingsError


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Check that a certificate chain and its key can be read, are PEM, and belong together.

    Raises:
        SettingsError: they cannot; the message names the setting and the file.
    """
    chain = _read("tls_cert", certificate)
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise SettingsError(f"Setting 'tls_cert': {certificate} has no certificate in PEM (BEGIN CERTIFICATE).")
    key_setting, key_file = ("tls_key", key) if key is not None else ("tls_cert", certificate)
    private = chain if key is None else _read("tls_key", key)
    if b"PRIVATE KEY-----" not in private:
        hint = "" if key is not None else " Name its key with tls_key."
        raise SettingsError(f"Setting {key_setting!r}: {key_file} has no private key in PEM.{hint}")
    if b"ENCRYPTED" in private:
        raise SettingsError(
            f"Setting {key_setting!r}: the private key in {key_file} is encrypted. Store it without a passphrase, "
            "readable by the server only."
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"the private key in {key_file} does not belong to the certificate in {certificate}"
        else:
            problem = f"{certificate} or {key_file} is damaged or refused by OpenSSL ({error.reason or error})"
        raise SettingsError(f"Settings 'tls_cert' and 'tls_key': {problem}.") from error


def certificate_expiry(certificate: Path) -> float | None:
    """Return the end of the first certificate of a file, in seconds since 1970; None if it cannot be read."""
    library: Any = ssl
    try:
        return ssl.cert_time_to_seconds(library._ssl._test_decode_cert(str(certificate))["notAfter"])
    except Exception:  # noqa: BLE001 - a private function of the standard library; the date is for a warning only
        return None


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"Setting {setting!r}: {file} cannot be read: {error.strerror}.") from error

"""Checks of files, folders and addresses of the settings before models are loaded: a mistake shows at once."""

from __future__ import annotations

import errno
import ipaddress
import os
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nearfield.errors import SettingsError, StorageFailed
from nearfield.fileio.output_path import try_writing
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.batches.webhooks.webhook_sender import check_webhook_settings
from nearfield.server.files.file_store import FileStore
from nearfield.server.lifecycle.tls import certificate_expiry, check_certificate
from nearfield.server.logs import LOG
from nearfield.settings import Settings, cache_dir

#: Seconds before the end of a certificate from which on the server warns.
_EXPIRY_WARNING = 14 * 86_400


def check_settings(settings: Settings) -> None:
    """Check what the settings name, and log warnings about what will soon be wrong.

    Raises:
        SettingsError: a file or folder cannot be used; the message names it and its setting.
        MissingExtra: a feature needs a library that is not installed.
    """
    check_listener_settings(settings)
    _check_data_dir(settings)
    _check_collections(settings)
    _check_reports(settings)
    _check_url("chat_url", settings.chat_url)
    check_webhook_settings(settings.webhook_hosts, settings.webhook_secrets)
    for host in settings.allowed_hosts:
        _check_host(host)
    for origin in settings.cors_origins:
        _check_origin(origin)
    if settings.chat_url:
        from nearfield.corpus.answering.chat_client import ChatEndpoint

        ChatEndpoint.configured(settings.chat_url, settings.chat_model, settings.chat_kind, settings.chat_timeout)


def check_listener_settings(settings: Settings) -> None:
    """Check what servers and routers need to listen: keys, certificate, proxies, and the address of the collector.

    Raises:
        SettingsError: a file cannot be used, or an address is wrong.
    """
    ApiKeys(settings.api_keys, settings.api_key_file)
    _check_tls(settings)
    _check_url("otel_endpoint", settings.otel_endpoint)
    for proxy in settings.trusted_proxies:
        _check_proxy(proxy)


def _check_tls(settings: Settings) -> None:
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise SettingsError("Setting 'tls_key' needs 'tls_cert': name the certificate chain too.")
        return
    check_certificate(settings.tls_cert, settings.tls_key)
    expiry = certificate_expiry(settings.tls_cert)
    if expiry is not None and expiry - time.time() < _EXPIRY_WARNING:
        day = time.strftime("%Y-%m-%d", time.gmtime(expiry))
        verb = "has expired on" if expiry < time.time() else "expires on"
        LOG.warning(
            "the certificate %s (tls_cert) %s %s: replace the file and send SIGHUP", settings.tls_cert, verb, day
        )


def _check_data_dir(settings: Settings) -> None:
    """Check that files can be stored; without the setting, a folder that cannot be used is a warning."""
    folder = settings.data_dir or cache_dir() / "server"
    try:
        try_writing(folder, 0o700)
        store = FileStore(folder)
        try:
            if store.used:
                with store.records():
                    pass
        finally:
            store.close()
    except (OSError, StorageFailed) as error:
        _report_data_dir(folder, error, configured=settings.data_dir is not None)


def _report_data_dir(folder: Path, error: Exception, *, configured: bool) -> None:
    cause = error.__cause__ if isinstance(error, StorageFailed) else error
    reason = getattr(cause, "strerror", None) or str(cause)
    full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if configured and not full:
        reason = "it is no folder" if folder.exists() and not folder.is_dir() else reason
        raise SettingsError(
            f"Setting 'data_dir': {folder} cannot be used for files and batches: {reason}. Name a folder that user "
            f"{os.getuid()} may write to."
        ) from error
    LOG.warning("files and batches cannot be stored in %s (data_dir): %s", folder, reason)


def _check_collections(settings: Settings) -> None:
    """Create the folder of collections if it does not exist: clients may create the first one."""
    folder = settings.collections_dir
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.scandir(folder).close()
    except OSError as error:
        raise SettingsError(
            f"Setting 'collections_dir': {folder} cannot be read or created: {error.strerror}. Name a folder of "
            "collections."
        ) from error


def _check_reports(settings: Settings) -> None:
    """Check that a folder of reports that is named can be read: a typing error would show no reports."""
    folder = settings.reports_dir
    if folder is None:
        return
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise SettingsError(
            f"Setting 'reports_dir': {folder} cannot be read: {error.strerror}. Name a folder of reports."
        ) from error


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    try:
        parts: Any = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0) and url.isprintable() and " " not in url
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(f"Setting {name!r} cannot be {url!r}: write a URL such as http://localhost:4318.")


def _check_proxy(proxy: str) -> None:
    """Check an address or network: a name would never be equal to the address that a connection comes from."""
    try:
        if proxy != "*":
            ipaddress.ip_network(proxy)
    except ValueError as error:
        raise SettingsError(
            f"Setting 'trusted_proxies' cannot be {proxy!r}: write an address such as 10.0.0.7, a network such as "
            "10.0.0.0/24 without further bits, or *."
        ) from error


def _check_host(host: str) -> None:
    """Check a name that is compared with the header ``Host`` without its port."""
    if not host.isprintable() or any(character in host for character in "/ *@") or host.count(":") == 1:
        raise SettingsError(
            f"Setting 'allowed_hosts' cannot be {host!r}: write a name alone, such as vectors.example.com, without "
            "scheme, port or path."
        )


def _check_origin(origin: str) -> None:
    """Check an origin, which is compared with the header ``Origin`` character by character."""
    scheme, separator, host = origin.partition("://")
    valid = (
        separator
        and scheme.replace("-", "").isalnum()
        and host
        and not any(character in host for character in "/ *@?#")
    )
    if origin not in ("*", "null") and not (valid and origin == origin.lower()):
        raise SettingsError(
            f"Setting 'cors_origins' cannot be {origin!r}: write scheme, host and port as browsers send them, such as "
            "https://app.example.com (in lower case, without a path or a slash at the end), or *."
        )


def reload_certificate(context: ssl.SSLContext | None, settings: Settings) -> str:
    """Read certificate and key again for new connections, and return what was done. The old ones stay on an error."""
    if context is None or settings.tls_cert is None:
        return "no certificate"
    try:
        check_certificate(settings.tls_cert, settings.tls_key)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (SettingsError, OSError) as error:
        LOG.error("the certificate stays the same: %s", error)
        return "certificate unchanged"
    return "certificate read again"

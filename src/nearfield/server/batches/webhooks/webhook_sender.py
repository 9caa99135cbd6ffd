"""Send webhooks: signed, to checked addresses, again and again until they are delivered or have become too old."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nearfield import __version__
from nearfield.errors import InputError, SettingsError, StorageFailed, StorageFull
from nearfield.fileio import url_safety
from nearfield.server.batches.webhooks.callback_hosts import CallbackHosts
from nearfield.server.batches.webhooks.signature import parse_secret, signed_headers
from nearfield.server.batches.webhooks.webhook_store import Webhook, WebhookStore
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.file_threads import in_thread
from nearfield.server.logs import LOG

if TYPE_CHECKING:
    from httpx import URL, AsyncClient

#: Name of the metadata of a batch that has the URL.
CALLBACK = "callback_url"
#: Seconds until the second attempt; each later wait is four times as long, up to the maximum, and varies by a fifth.
_FIRST_WAIT, _WAIT_FACTOR, _MAX_WAIT, _JITTER = 5.0, 4.0, 4 * 3600.0, 0.2
#: Attempts, which take about 22 hours; and seconds after which a message is too old whatever their number.
_MAX_ATTEMPTS, _MAX_AGE = 12, 2 * 86_400
#: Seconds of one attempt, from the lookup of the name to the status of the reply.
_ATTEMPT_SECONDS = 15.0
#: Attempts at the same time, and those to one host.
_MAX_RUNNING, _MAX_RUNNING_PER_HOST = 8, 2
#: Addresses of a host that are tried.
_MAX_ADDRESSES = 4
#: Seconds after which the records are read again, also when nothing seems to be due: the clock may have been set.
_LOOK_SECONDS = 60.0
#: The threads that look up names: a lookup may take long, and requests need asyncio's own threads.
_POOL = ThreadPoolExecutor(_MAX_RUNNING, thread_name_prefix="nearfield-lookup")


class WebhookSender:
    """The webhooks of all owners. One process at a time may call ``run``.

    Args:
        files: the store whose database records them.
        hosts: the allowed hosts; none turns webhooks off.
        secrets: what they are signed with, as ``whsec_`` and base64.
        count: called with the outcome of each attempt: ``delivered``, ``retried`` or ``abandoned``.

    Raises:
        SettingsError: a host or secret is invalid, or there are hosts and no secret.
    """

    def __init__(
        self, files: FileStore, hosts: Iterable[str], secrets: Sequence[str], count: Callable[[str], None]
    ) -> None:
        self.store = WebhookStore(files)
        self.hosts, self._secrets = check_webhook_settings(hosts, secrets)
        self._files = files
        self._count = count
        self._more = asyncio.Event()

    async def check(self, metadata: Mapping[str, str] | None, owner: str) -> None:
        """Check the callback URL of a new batch, if its metadata have one.

        Raises:
            InputError: it is not allowed.
            TooManyBatches: too many webhooks of the owner wait.
        """
        if CALLBACK in (metadata or {}):
            self.hosts.check((metadata or {})[CALLBACK])
            await in_thread(self.store.check_number, owner)

    def receiver(self, metadata: Mapping[str, str] | None) -> tuple[str, str] | None:
        """Return the URL and the host for the events of a batch; None if there is none that is allowed."""
        url = (metadata or {}).get(CALLBACK)
        if url is None:
            return None
        try:
            return url, self.hosts.check(url).host
        except InputError:
            return None

    async def any_waiting(self) -> bool:
        """Return whether there is anything to send."""
        if not self.hosts:
            return False
        due, later = await in_thread(self.store.waiting, self._files.clock())
        return bool(due) or later is not None

    def wake(self) -> None:
        """Look for new webhooks."""
        self._more.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send all webhooks, and return when none is left or ``stop`` is set."""
        running: dict[str, asyncio.Task[None]] = {}
        hosts: dict[str, str] = {}
        try:
            while not stop.is_set():
                self._more.clear()
                due, later = await in_thread(self.store.waiting, self._files.clock())
                if not due and later is None and not running:
                    return
                busy = Counter(hosts[name] for name in running)
                for webhook in due:
                    free = len(running) < _MAX_RUNNING and busy[webhook.host] < _MAX_RUNNING_PER_HOST
                    if free and webhook.id not in running:
                        busy[webhook.host] += 1
                        running[webhook.id] = asyncio.create_task(self._attempt(webhook, stop))
                        hosts[webhook.id] = webhook.host
                wait = _LOOK_SECONDS if later is None else min(_LOOK_SECONDS, max(0.0, later - self._files.clock()))
                await _first([stop, self._more], running.values(), wait)
                running = {name: task for name, task in running.items() if not task.done()}
            if running:
                await asyncio.wait(running.values())
        except (StorageFailed, StorageFull) as error:
            LOG.warning("webhooks wait: %s", error)
            await _sleep(stop, _LOOK_SECONDS)
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _attempt(self, webhook: Webhook, stop: asyncio.Event) -> None:
        """Send a webhook once, and record the outcome."""
        attempt = webhook.attempts + 1
        try:
            problem, final = await self._problem(webhook)
            if problem is None:
                outcome, level, text = "delivered", LOG.info, "delivered"
                await in_thread(self.store.remove, webhook.id)
            elif final or attempt >= _MAX_ATTEMPTS or self._files.clock() - webhook.created_at > _MAX_AGE:
                outcome, level, text = "abandoned", LOG.error, f"abandoned: {problem}"
                await in_thread(self.store.remove, webhook.id)
            else:
                wait = min(_FIRST_WAIT * _WAIT_FACTOR**webhook.attempts, _MAX_WAIT)
                wait *= random.uniform(1 - _JITTER, 1 + _JITTER)
                outcome, level, text = "retried", LOG.warning, f"{problem}; next attempt in {wait:.0f} s"
                await in_thread(self.store.postpone, webhook.id, self._files.clock() + wait)
        except (StorageFailed, StorageFull) as error:
            LOG.warning("webhook %s: its outcome cannot be recorded: %s", webhook.id, error)
            await _sleep(stop, _LOOK_SECONDS)
            return
        self._count(outcome)
        level("webhook %s (%s) to %s, attempt %d: %s", webhook.id, webhook.event, webhook.host, attempt, text)

    async def _problem(self, webhook: Webhook) -> tuple[str | None, bool]:
        """Send a webhook; return why it was not delivered, None if it was, and whether that is final."""
        import httpx

        try:
            target = self.hosts.check(webhook.url)
        except InputError as error:
            return str(error), True
        try:
            status = await asyncio.wait_for(self._send(webhook, target), _ATTEMPT_SECONDS)
        except asyncio.TimeoutError:
            return f"no reply within {_ATTEMPT_SECONDS:g} s", False
        except (InputError, httpx.HTTPError, OSError) as error:
            return str(error) or type(error).__name__, False
        except Exception as error:  # noqa: BLE001 - the other webhooks go on
            return type(error).__name__, False
        if 200 <= status < 300:
            return None, True
        also = " (redirects are not followed)" if 300 <= status < 400 else ""
        return f"status {status}{also}", status == httpx.codes.GONE

    async def _send(self, webhook: Webhook, target: URL) -> int:
        """Post a webhook to an address that was checked; return the status of the reply, which is not read."""
        import httpx

        host, port = target.raw_host.decode("ascii"), target.port or (443 if target.scheme == "https" else 80)
        addresses = await asyncio.get_running_loop().run_in_executor(_POOL, url_safety.resolve, host, port)
        url_safety.require_public_address(addresses, host, self.hosts.networks)
        async with httpx.AsyncClient(trust_env=False, timeout=_ATTEMPT_SECONDS) as client:
            error: Exception | None = None
            for address in addresses[:_MAX_ADDRESSES]:
                try:
                    return await self._post(client, webhook, target, address)
                except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
                    error = failure
        raise error or InputError(f"{host} has no address.")

    async def _post(self, client: AsyncClient, webhook: Webhook, target: URL, address: str) -> int:
        timestamp = int(self._files.clock())
        request = client.build_request(
            "POST",
            target.copy_with(host=address, fragment=None),
            content=webhook.body,
            headers={
                "Host": target.netloc.decode("ascii"),
                "Content-Type": "application/json",
                "User-Agent": f"nearfield/{__version__} (webhooks)",
                **signed_headers(self._secrets, webhook.id, timestamp, webhook.body),
            },
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )
        response = await client.send(request, stream=True, follow_redirects=False)
        await response.aclose()
        return response.status_code


def check_webhook_settings(hosts: Iterable[str], secrets: Sequence[str]) -> tuple[CallbackHosts, list[bytes]]:
    """Return the allowed hosts and the bytes of the secrets.

    Raises:
        SettingsError: a host or secret is invalid, or there are hosts and no secret.
    """
    allowed, keys = CallbackHosts(hosts), [parse_secret(secret) for secret in secrets]
    if allowed and not keys:
        raise SettingsError("Setting 'webhook_hosts' needs 'webhook_secrets': webhooks are signed.")
    return allowed, keys


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Sleep until ``stop`` is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except asyncio.TimeoutError:
        pass


async def _first(events: Sequence[asyncio.Event], tasks: Iterable[asyncio.Task[None]], seconds: float) -> None:
    """Wait for the first of some events, tasks and a time."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait([*waiting, *tasks], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()

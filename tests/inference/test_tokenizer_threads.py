"""Tokenisation beside the event loop: in parts, until the deadline, and no longer than the limits allow."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.errors import DeadlineExceeded, InputError, TooLarge
from nearfield.inference.calls.limits import NO_LIMITS, CallLimits
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.preparation import tokenizer_threads


@pytest.fixture
def calls(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The number of texts and the thread of each call of the tokenizer."""
    calls: list[tuple[int, str]] = []
    run = tiny.tokenizer._run

    def watched(texts: list[str], **options: Any) -> Any:
        calls.append((len(texts), threading.current_thread().name))
        return run(texts, **options)

    monkeypatch.setattr(tiny.tokenizer, "_run", watched)
    return calls


async def test_long_requests_are_tokenised_in_parts(tiny: Encoder, calls: list[tuple[int, str]]) -> None:
    texts = [f"{number} " + "river " * 10_000 for number in range(9)]  # equal ones are tokenised once
    result = await tiny.aencode(texts)
    assert result.shape == (9, 32)
    assert [count for count, _ in calls] == [4, 4, 1]
    assert all(name.startswith("nearfield-tokenize") for _, name in calls)
    calls.clear()
    await tiny.aencode(["river"])
    assert [name for _, name in calls] == [threading.current_thread().name]


async def test_a_long_prompt_counts_for_each_text(tiny: Encoder, calls: list[tuple[int, str]]) -> None:
    await tiny.aencode(["river"] * 10, prompt="dog " * 500)
    assert all(name.startswith("nearfield-tokenize") for _, name in calls)


async def test_messages_name_the_input_of_the_request(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="input 8 is not Unicode"):
        await tiny.aencode(["river " * 10_000] * 8 + ["\ud800"])


async def test_too_many_tokens_end_it_early(tiny: Encoder, calls: list[tuple[int, str]]) -> None:
    with pytest.raises(TooLarge, match="more than 256 tokens, and the limit for one request is 200"):
        await tiny.aencode([f"{number} " + "river " * 10_000 for number in range(40)], max_tokens=200)
    assert sum(count for count, _ in calls) == 4
    calls.clear()
    with pytest.raises(TooLarge, match=r"The inputs have \d+ tokens"):
        await tiny.aencode(["river. " * 10_000], max_tokens=1_000, truncate="chunk")
    assert len(calls) == 1


async def test_the_deadline_holds(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.tokenizer, "_run", lambda _texts, **_: time.sleep(1.5))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await tiny.aencode(["river " * 10_000], deadline=0.1)
    assert time.monotonic() - started < 1


async def test_other_requests_have_their_turn(tiny: Encoder) -> None:
    """Two requests with one thread: their parts alternate."""
    order: list[str] = []

    def tokenize(name: str) -> Any:
        def run(_: Any) -> list[Any]:
            order.append(name)
            return []

        return run

    sizes = [tokenizer_threads._PART_CHARACTERS] * 4
    await asyncio.gather(
        *(
            tokenizer_threads.tokenize_in_parts(tokenize(name), tiny.tokenizer, sizes, NO_LIMITS, None, len)
            for name in "ab"
        )
    )
    assert sorted(order[:4]) == ["a", "a", "b", "b"]


async def test_reading_is_charged(tiny: Encoder) -> None:
    class Account:
        charged, read = 0, 0

        def charge(self, tokens: int) -> None:
            self.charged += tokens

        def refund(self, tokens: int) -> None:
            self.charged -= tokens

        def charge_reading(self, tokens: int) -> None:
            self.read += tokens

    async def cost(text: str) -> tuple[int, int]:
        account = Account()
        await tiny.run_encode([text], EncodeOptions(), CallLimits(account=account))
        return account.charged, account.read

    assert await cost("dog") == (3, 0)
    assert await cost("dog " * 10_000) == (64, 40_000 // 64 - 64)
    assert await cost("dog " * 1_000_000) == (64, 2**16 // 64 - 64)
    assert await cost("x" * 3_000_000) == (3, 2**20 // 64 - 3)  # a word without end: a megabyte of it is read

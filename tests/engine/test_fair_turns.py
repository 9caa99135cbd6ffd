"""A semaphore whose owners take turns."""

from __future__ import annotations

import asyncio

from nearfield.engine.fair_turns import FairTurns


def test_an_owner_with_one_request_does_not_wait_for_all_of_another() -> None:
    async def scenario() -> list[str]:
        turns, order = FairTurns(2), list[str]()

        async def work(owner: str) -> None:
            await turns.acquire(owner)
            await asyncio.sleep(0.001)
            order.append(owner)
            turns.release()

        tasks = [asyncio.create_task(work("greedy")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(work("polite")))
        await asyncio.gather(*tasks)
        return order

    order = asyncio.run(scenario())
    assert order.index("polite") <= 4
    assert len(order) == 21


def test_a_cancelled_turn_is_passed_on() -> None:
    async def scenario() -> None:
        turns = FairTurns(1)
        await turns.acquire("a")
        waiting = [asyncio.create_task(turns.acquire(owner)) for owner in "ab"]
        await asyncio.sleep(0)
        turns.release()
        waiting[0].cancel()  # its turn has come, but it has not run yet
        await asyncio.wait_for(waiting[1], 5)
        turns.release()
        await asyncio.wait_for(turns.acquire("c"), 5)

    asyncio.run(scenario())

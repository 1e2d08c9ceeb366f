"""A coroutine in the background."""

import asyncio

from store.background import Background


async def test_it_starts_and_stops_and_both_bear_being_called_twice() -> None:
    runs: list[str] = []

    async def forever() -> None:
        runs.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("ended")

    loop = Background(forever, "test")
    loop.start()
    loop.start()
    await asyncio.sleep(0)

    assert await loop.stop()
    assert not await loop.stop()
    assert runs == ["begun", "ended"]


async def test_a_coroutine_that_loses_a_cancellation_is_cancelled_again() -> None:
    losses = 2

    async def forever() -> None:
        nonlocal losses
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not losses:
                    raise
                losses -= 1

    loop = Background(forever, "test")
    loop.start()
    await asyncio.sleep(0)

    assert await loop.stop()
    assert losses == 0


async def test_a_coroutine_that_fails_begins_again() -> None:
    runs = 0
    again = asyncio.Event()

    async def forever() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("once")
        again.set()
        await asyncio.Event().wait()

    loop = Background(forever, "test")
    loop.start()
    await again.wait()

    assert await loop.stop()
    assert runs == 2

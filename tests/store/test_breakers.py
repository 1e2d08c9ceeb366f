"""The circuit breaker of a target, against a real Valkey."""

from store.breakers import BreakerRules, Breakers, Permission
from store.connection import Broker
from tests.servers.waiting import until_async

RULES = BreakerRules(failures=3, reset_timeout_s=0.1, longest_timeout_s=0.3)


def breakers(broker: Broker) -> Breakers:
    return Breakers(broker, "droplet", RULES)


async def open_one(board: Breakers) -> None:
    for _ in range(RULES.failures):
        await board.failed("web-1")


async def permission(board: Breakers) -> Permission:
    return (await board.ask("web-1"))[0]


async def test_a_breaker_opens_after_so_many_failures_in_a_row(broker: Broker) -> None:
    board = breakers(broker)

    opened = [await board.failed("web-1") for _ in range(3)]

    assert opened == [False, False, True]
    assert await permission(board) is Permission.OPEN
    assert await board.board() == {"web-1"}


async def test_a_success_in_between_closes_it(broker: Broker) -> None:
    board = breakers(broker)
    await board.failed("web-1")
    await board.failed("web-1")

    await board.passed("web-1")

    assert await board.failed("web-1") is False
    assert await permission(board) is Permission.GO


async def test_other_targets_are_not_touched(broker: Broker) -> None:
    board = breakers(broker)

    await open_one(board)

    assert (await board.ask("web-2"))[0] is Permission.GO


async def test_when_the_time_is_over_exactly_one_call_tries(broker: Broker) -> None:
    board, another = breakers(broker), breakers(broker)
    await open_one(board)

    async def tries() -> bool:
        return await permission(board) is Permission.TRY

    await until_async(tries, "the breaker is half-open")

    assert await permission(another) is Permission.OPEN


async def test_a_try_that_fails_opens_it_for_longer_and_one_that_passes_closes_it(broker: Broker) -> None:
    board = breakers(broker)
    await open_one(board)

    async def tries() -> bool:
        return await permission(board) is Permission.TRY

    await until_async(tries, "the breaker is half-open")
    await board.failed("web-1")
    _, wait_s = await board.ask("web-1")
    await until_async(tries, "the breaker is half-open again")
    await board.passed("web-1")

    assert 0.1 < wait_s <= 0.2
    assert await permission(board) is Permission.GO
    assert await board.board() == set()

"""A tick of warming: what it submits, as whom, and when it leaves a tool in peace."""

from collections.abc import Callable

import msgspec
import pytest

from beat.warm import Warmer
from cache.popularity import Asked, Counted, PopularCall, Popularity
from routing.front import Caller
from store import keys
from store.breakers import BreakerRules, Breakers
from store.configuration import Cache as Settings
from store.connection import Broker
from tests.servers.sealed import Sealed
from tests.servers.valkey import Valkey
from toolswarm.errors import BrokerUnavailable, PermissionDenied, ToolswarmError, Unavailable
from toolswarm.ids import new_call_id
from toolswarm.messages import (
    CacheMode,
    Context,
    Effect,
    ErrorInfo,
    Operation,
    Priority,
    SubmitBody,
    SwarmStatus,
    ToolResult,
    WorkerStatus,
)
from toolswarm.states import State

ECHO = Operation(tool="trial", name="echo", title="", description="", parameters={}, effect=Effect.READ)
ENDED = ToolResult(id=new_call_id(), status=State.SUCCEEDED)


def worker(slots: int) -> WorkerStatus:
    return WorkerStatus(
        name="w",
        tool="trial",
        kind="asyncio",
        slots=slots,
        busy=0,
        done=0,
        service_s=0.0,
        started_at=0.0,
        seen_at=0.0,
        polled_at=0.0,
    )


class WayIn:
    """Takes calls, and ends them as a test wants."""

    def __init__(self) -> None:
        self.submitted: list[tuple[SubmitBody, Caller]] = []
        self.swarm = SwarmStatus(at=0.0, workers=(worker(4),))
        self.ends: Callable[[], ToolResult] = lambda: ENDED
        self.catalogue = [ECHO]

    async def operations(self) -> list[Operation]:
        return self.catalogue

    async def status(self) -> SwarmStatus:
        return self.swarm

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        self.submitted.append((body, caller))
        return msgspec.structs.replace(self.ends(), id=new_call_id())

    async def result(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        return msgspec.structs.replace(self.ends(), id=call_id)

    def texts(self) -> list[object]:
        return [body.arguments["text"] for body, _ in self.submitted]


class Beat:
    """A warmer with all that it uses."""

    def __init__(self, broker: Broker, *, per_minute: int = 100) -> None:
        self.way_in = WayIn()
        self.broker = broker
        self.popularity = Popularity(broker, Sealed(), half_life_s=10.0, most=100)
        self.warmer = self.another(per_minute)

    def another(self, per_minute: int = 100) -> Warmer:
        return Warmer(
            self.way_in,
            self.popularity,
            broker=self.broker,
            cache=self.broker,
            settings=Settings(warm_every_s=1.0, warm_per_minute=per_minute),
        )

    async def asked(self, *names: str, fresh_s: float = 0.5, ttl_s: float = 10.0, count: int = 100) -> None:
        await self.popularity.write("trial", [self._counted(name, fresh_s, ttl_s, count) for name in names])

    def _counted(self, name: str, fresh_s: float, ttl_s: float, count: int) -> Counted:
        call = PopularCall(
            operation="trial.echo",
            tenant="acme",
            principal="ann",
            arguments={"text": name},
            context=Context(repo="acme/web"),
            place="web-1",
        )
        asked = Asked(name=name, ttl_s=ttl_s, fresh_s=fresh_s, cost_s=0.1)
        return Counted(asked=asked, count=count, call=lambda: call)

    async def tick(self) -> int:
        submitted = await self.warmer.run_once()
        await self.warmer.settled()
        return submitted

    async def came(self) -> dict[str, int]:
        reply = await self.broker.command("HGETALL", keys.warm_counts_key("trial"))
        return {reply[at].decode(): int(reply[at + 1]) for at in range(0, len(reply), 2)}


@pytest.fixture
def beat(broker: Broker) -> Beat:
    return Beat(broker)


async def test_what_is_due_is_run_again_as_the_one_who_asked_and_for_nobody(beat: Beat) -> None:
    await beat.asked("a")

    await beat.tick()

    ((body, caller),) = beat.way_in.submitted
    assert caller == Caller("acme", "ann")
    assert (body.operation, body.arguments, body.context) == ("trial.echo", {"text": "a"}, Context(repo="acme/web"))
    assert (body.priority, body.cache) == (Priority.BACKGROUND, CacheMode.REFRESH)
    assert body.deadline is not None
    assert await beat.came() == {"warmed": 1}


async def test_each_due_time_is_refreshed_once_however_many_tick(beat: Beat) -> None:
    await beat.asked("a", "b")
    other = beat.another()

    await beat.tick()
    await other.run_once()
    await other.settled()
    await beat.tick()

    assert sorted(map(str, beat.way_in.texts())) == ["a", "b"]


async def test_the_budget_of_a_minute_goes_to_what_saves_the_most(broker: Broker) -> None:
    beat = Beat(broker, per_minute=1)
    await beat.asked("rare", count=50)
    await beat.asked("often", count=500)

    await beat.tick()
    await beat.tick()

    assert beat.way_in.texts() == ["often"]


async def test_nothing_is_refreshed_while_the_queue_is_late(beat: Beat) -> None:
    await beat.asked("a")
    beat.way_in.swarm = SwarmStatus(at=0.0, workers=(worker(4),), backlog={"tool.trial": 5})

    await beat.tick()
    late = list(beat.way_in.submitted)
    beat.way_in.swarm = SwarmStatus(at=0.0, workers=(worker(4),), backlog={"tool.trial": 4})
    await beat.tick()

    assert late == []
    assert beat.way_in.texts() == ["a"]
    assert await beat.came() == {"late": 1, "warmed": 1}


async def test_nothing_is_refreshed_while_the_breaker_of_its_target_is_open(beat: Beat) -> None:
    await beat.asked("a")
    breakers = Breakers(beat.broker, "trial", BreakerRules(failures=1))
    await breakers.failed("host web-1")

    await beat.tick()
    open_ = list(beat.way_in.submitted)
    await breakers.passed("host web-1")
    await beat.tick()

    assert open_ == []
    assert beat.way_in.texts() == ["a"]


async def test_a_rate_budget_that_says_wait_is_waited_for(beat: Beat) -> None:
    error = ErrorInfo(code="rate_limited", message="wait", details={"retry_after_s": 50})
    beat.way_in.ends = lambda: ToolResult(id="", status=State.FAILED, error=error)
    await beat.asked("a")
    await beat.tick()

    await beat.asked("b")
    await beat.tick()

    assert beat.way_in.texts() == ["a"]
    assert await beat.came() == {"rate_limited": 1}


async def test_a_call_that_fails_is_not_warmed_again_until_it_is_asked_for_anew(beat: Beat) -> None:
    error = ErrorInfo(code="not_found", message="gone")
    beat.way_in.ends = lambda: ToolResult(id="", status=State.FAILED, error=error)
    await beat.asked("a", ttl_s=0.2, fresh_s=0.1)

    await beat.tick()

    assert (await beat.popularity.top("trial", 10))[1] == []
    assert await beat.came() == {"failed": 1}


async def test_what_was_a_read_when_it_was_popular_and_is_none_any_more_is_not_run(beat: Beat) -> None:
    await beat.asked("a", ttl_s=0.2, fresh_s=0.1)
    other = msgspec.structs.replace(ECHO, name="other")
    beat.way_in.catalogue = [msgspec.structs.replace(ECHO, effect=Effect.ONCE), other]

    await beat.tick()

    assert beat.way_in.submitted == []
    assert (await beat.popularity.top("trial", 10))[1] == []


@pytest.mark.parametrize(
    ("error", "kept", "came"),
    [
        (PermissionDenied("the tenant is gone"), 0, "refused"),
        (Unavailable("full", retry_after_s=1), 1, "unavailable"),
        (BrokerUnavailable("away"), 1, "unavailable"),
    ],
)
async def test_a_tenant_that_is_gone_warms_nothing_and_a_full_queue_only_waits(
    beat: Beat, error: ToolswarmError, kept: int, came: str
) -> None:
    def refuse() -> ToolResult:
        raise error

    beat.way_in.ends = refuse
    await beat.asked("a")

    await beat.tick()

    assert len((await beat.popularity.top("trial", 10))[1]) == kept
    assert await beat.came() == {came: 1}


async def test_without_the_cache_nothing_is_warmed_and_nothing_fails(beat: Beat, valkey: Valkey) -> None:
    away = Broker(f"unix://{valkey.folder}/nobody.sock", timeout_s=0.1)
    popularity = Popularity(away, Sealed(), half_life_s=10.0, most=100)
    warmer = Warmer(beat.way_in, popularity, broker=beat.broker, cache=away, settings=Settings())

    assert await warmer.run_once() == 0

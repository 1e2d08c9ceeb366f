"""`Client("unix://…")`: requests travel by Celery, answers come back on a list; on a real Valkey."""

import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import msgspec
import pytest
import redis

from client.tests.router_pool import API_KEY, RouterPool, Script, Valkey, running_valkey
from client.tests.scripted_gateway import CALL_ID, READ_FILE, ended, running, succeeded
from toolswarm import AsyncClient, Client, broker
from toolswarm.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    CallFailed,
    InvalidArguments,
    Unavailable,
    UnknownOperation,
)
from toolswarm.intake import INTAKE_QUEUE, IntakeReply, IntakeRequest, bell_key, reply_key
from toolswarm.messages import ErrorInfo, SwarmStatus
from toolswarm.states import State


@pytest.fixture(scope="module")
def shared_valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    with shared_valkey.connect() as connection:
        connection.flushall()  # pyright: ignore[reportUnknownMemberType]
    return shared_valkey


@contextmanager
def answering(valkey: Valkey, script: Script) -> Generator[RouterPool]:
    with valkey.connect() as connection:
        pool = RouterPool(connection, script)
        pool.start()
        try:
            yield pool
        finally:
            pool.stop()


def ok(request: IntakeRequest, value: object) -> IntakeReply:
    return IntakeReply(id=request.id, ok=msgspec.to_builtins(value))


def test_a_call_goes_through_the_queue_and_its_value_comes_back(valkey: Valkey) -> None:
    def script(request: IntakeRequest) -> IntakeReply:
        return ok(request, running() if request.method == "submit" else succeeded({"a": 1}))

    with answering(valkey, script) as pool, Client(valkey.url, API_KEY) as swarm:
        value = swarm.call("read_file", path="secret/name")

    assert value == {"a": 1}
    assert [request.method for request in pool.requests] == ["submit", "result"]
    assert pool.requests[0].params["call"]["arguments"] == {"path": "secret/name"}
    assert pool.requests[1].params["id"] == CALL_ID


def test_neither_key_nor_arguments_are_shown_in_the_headers_of_the_task(valkey: Valkey) -> None:
    with (
        answering(valkey, lambda request: ok(request, succeeded(1))) as pool,
        Client(valkey.url, API_KEY) as swarm,
    ):
        swarm.call("read_file", path="secret/name")

    (message,) = pool.messages
    assert "secret/name" not in str(message["headers"])
    assert message["headers"]["ignore_result"] is True
    assert API_KEY not in str(message)


def test_the_bell_of_the_queue_is_rung_and_expires(valkey: Valkey) -> None:
    with (
        answering(valkey, lambda request: ok(request, SwarmStatus(at=1.0))),
        Client(valkey.url, API_KEY) as swarm,
        valkey.connect() as connection,
    ):
        swarm.status()
        swarm.status()

        assert connection.llen(bell_key(INTAKE_QUEUE)) == 1
        assert 0 < int(str(connection.ttl(bell_key(INTAKE_QUEUE)))) <= 60


def test_an_error_of_the_router_pool_has_its_class(valkey: Valkey) -> None:
    info = ErrorInfo(code="invalid_arguments", message="path is missing", details={"field": "path"})

    with (
        answering(valkey, lambda request: IntakeReply(id=request.id, error=info)),
        Client(valkey.url, API_KEY) as swarm,
        pytest.raises(InvalidArguments, match="path is missing") as caught,
    ):
        swarm.call("read_file")

    assert caught.value.details == {"field": "path"}


def test_a_call_that_fails_raises(valkey: Valkey) -> None:
    with (
        answering(valkey, lambda request: ok(request, ended(State.FAILED))),
        Client(valkey.url, API_KEY) as swarm,
        pytest.raises(CallFailed, match="not_found"),
    ):
        swarm.call("x")


def test_a_reply_that_was_lost_is_asked_for_again_under_the_same_key(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "ANSWER_MARGIN_S", 0.3)
    monkeypatch.setattr(broker, "SUBMIT_WAIT_S", 0.0)
    lost: list[str] = []

    def script(request: IntakeRequest) -> IntakeReply | None:
        if not lost:
            lost.append(request.id)
            return None
        return ok(request, succeeded(5))

    with answering(valkey, script) as pool, Client(valkey.url, API_KEY) as swarm:
        value = swarm.call("x")

    assert value == 5
    assert len({request.params["call"]["idempotency_key"] for request in pool.requests}) == 1
    assert len({request.id for request in pool.requests}) == 2


def test_a_waiter_outlives_a_restart_of_the_broker() -> None:
    with running_valkey() as valkey:
        submitted: list[str] = []

        def script(request: IntakeRequest) -> IntakeReply | None:
            if request.method == "submit":
                return ok(request, running())
            submitted.append(request.id)
            if len(submitted) == 1:
                valkey.stop()  # whatever the broker held is gone, the reply with it
                valkey.start()
                return None
            return ok(request, succeeded(6))

        with answering(valkey, script), Client(valkey.url, API_KEY, timeout_s=30) as swarm:
            assert swarm.call("x") == 6
            assert swarm.call("x") == 6


def test_many_calls_are_sent_before_the_first_is_waited_for(valkey: Valkey) -> None:
    def script(request: IntakeRequest) -> IntakeReply:
        number = request.params["call"]["arguments"]["number"]
        if number == 3:
            return IntakeReply(id=request.id, error=ErrorInfo(code="permission_denied", message="no"))
        return ok(request, succeeded(number, str(number)))

    with answering(valkey, script), Client(valkey.url, API_KEY) as swarm:
        results = swarm.call_many([("x", {"number": number}) for number in range(50)])

    assert [result.value for result in results] == [None if number == 3 else number for number in range(50)]


def test_cancel_route_tools_and_events_go_the_same_way(valkey: Valkey) -> None:
    states = [running(), running(), succeeded(1)]

    def script(request: IntakeRequest) -> IntakeReply:
        match request.method:
            case "tools":
                return ok(request, [READ_FILE])
            case "result":
                return ok(request, states.pop(0))
            case _:
                return ok(request, running())

    with answering(valkey, script), Client(valkey.url, API_KEY) as swarm:
        assert swarm.tools("read_file") == swarm.tools("desktop") == swarm.tools() == [READ_FILE]
        with pytest.raises(UnknownOperation, match=r"did you mean desktop\.read_file"):
            swarm.tools("desktop.raed_file")
        assert swarm.handle(CALL_ID).cancel() is State.RUNNING
        assert [event.state for event in swarm.handle(CALL_ID).events()] == [State.RUNNING, State.SUCCEEDED]


def test_a_router_pool_that_does_not_answer_is_told(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "ANSWER_MARGIN_S", 0.1)

    with Client(valkey.url, "another key") as swarm, pytest.raises(Unavailable, match="router pool") as caught:
        swarm.status()

    assert "another key" not in str(caught.value)


def test_a_broker_that_is_not_there_is_told_within_seconds() -> None:
    with (
        Client("unix:///nowhere/s?db=0", API_KEY) as swarm,
        pytest.raises(BrokerUnavailable, match="unix:///nowhere/s does not answer"),
    ):
        swarm.call("x")


def test_without_a_key_nothing_can_be_signed(valkey: Valkey) -> None:
    with pytest.raises(AuthenticationFailed, match="TOOLSWARM_API_KEY"):
        Client(valkey.url)


def test_a_closed_client_leaves_no_key_without_expiry_and_no_thread(valkey: Valkey) -> None:
    with answering(valkey, lambda request: ok(request, SwarmStatus(at=1.0))) as pool:
        client = Client(valkey.url, API_KEY)
        client.status()
        client.close()
        client.close()

    with valkey.connect() as connection:
        left = int(str(connection.llen(reply_key(pool.requests[0].reply_to))))
    assert left == 0


async def test_the_async_client_takes_a_broker_too(valkey: Valkey) -> None:
    def script(request: IntakeRequest) -> IntakeReply:
        return ok(request, running() if request.method == "submit" else succeeded(9))

    with answering(valkey, script):
        async with AsyncClient(valkey.url, API_KEY) as swarm:
            assert await swarm.call("x") == 9
            assert [event.state async for event in swarm.handle(CALL_ID).events()] == [State.SUCCEEDED]


@pytest.mark.parametrize(
    ("url", "spelled"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("unix:///a/s?db=2", "redis+socket:///a/s?virtual_host=2"),
        ("unix:///a/s", "redis+socket:///a/s"),
        ("unix://:pw@/a/s?x=1&db=2", "redis+socket://:pw@/a/s?x=1&virtual_host=2"),
    ],
)
def test_celery_is_given_its_own_spelling_of_the_url(url: str, spelled: str) -> None:
    assert broker.celery_url(url) == spelled


def test_a_missing_extra_is_told() -> None:
    program = (
        "import sys; sys.modules['celery'] = None\n"
        "import toolswarm\n"
        "try: toolswarm.Client('redis://h', 'k')\n"
        "except toolswarm.ToolswarmError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "toolswarm[broker]" in done.stdout


def test_redis_of_the_client_is_bounded(valkey: Valkey) -> None:
    connection = broker.connect(valkey.url)

    arguments = connection.connection_pool.connection_kwargs

    assert isinstance(connection, redis.Redis)
    assert (arguments["protocol"], arguments["socket_timeout"]) == (2, broker.SOCKET_TIMEOUT_S)
    connection.close()

"""What becomes of messages that nobody signed, or that are not what was signed: they run nothing, and are told of."""

import base64
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from routing import task_message
from routing.front import Caller, Front
from routing.signing import HEADER, SignatureRefused, Signer, Verifier
from store import keys
from store.connection import Broker
from store.ledger import Ledger, Submission
from tests.servers.stack import Stack
from tests.servers.trial_tool import TOOL
from tests.servers.valkey import Valkey
from tests.servers.waiting import until, until_async
from toolswarm.ids import new_call_id
from toolswarm.messages import DeadRequest, Effect, SubmitBody, ToolCall
from toolswarm.states import State

ME = Caller()
QUEUE = keys.tool_queue("trial")
ONCE = TOOL.operations["slow_once"].describe("trial")
Message = dict[str, Any]
Change = Callable[[Message], None]


class Swarm:
    """Workers of `trial` and `spare`, and somebody who can write to the broker as he likes."""

    def __init__(self, valkey: Valkey) -> None:
        self.stack = Stack(valkey)
        self.stack.settings["TOOLSWARM_ROUTING__FALLBACKS"] = '{"trial.store": ["spare.store"]}'
        self._worker = self.stack.start_worker("trial", "w1")
        self.stack.start_beat()
        self.stack.start_worker("spare", "s1")
        self.signer = Signer.from_file(str(self.stack.folder / "private.pem"))
        self.verifier = Verifier.from_file(str(self.stack.folder / "public.pem"))
        self.redis: Any = valkey.client()

    def effects(self, call: ToolCall) -> int:
        return sum(line.startswith(f"effect {call.arguments['label']} ") for line in self.stack.marked())

    def message(
        self, call: ToolCall, *, queue: str = QUEUE, signer: Signer | None = None, ahead_s: float = 60
    ) -> Message:
        """The task of a call, signed for a queue."""
        envelope = (signer or self.signer).sign(call, queue, time.time() + ahead_s)
        message: Message = json.loads(task_message.build(call, ONCE, QUEUE, envelope))
        return message

    def push(self, message: Message) -> None:
        """Put a task into the queue of `trial`."""
        self.redis.lpush(QUEUE, json.dumps(message))
        self.redis.lpush(f"ts:bell:{QUEUE}", "1")
        self.redis.expire(f"ts:bell:{QUEUE}", 60)

    def wait_refused(self, call_id: str, operation: str = ONCE.full_name, why: str = "") -> None:
        """Return when the worker has logged that it refused the task."""
        line = f"task {call_id} of {operation} refused: {why}"
        until(lambda: line in self.stack.log("w1"), f"the task of {call_id} is refused")

    def wait_ended(self, call_id: str) -> State:
        """Return when the call has ended."""
        until(lambda: self.state(call_id).terminal, "the call has ended")
        return self.state(call_id)

    def state(self, call_id: str) -> State:
        return State(self.redis.hget(keys.call_key(call_id), "state").decode())

    def stored_message(self, call_id: str) -> Message:
        message: Message = json.loads(self.redis.hget(keys.call_key(call_id), "message"))
        return message

    @contextmanager
    def paused(self) -> Generator[None]:
        """Nothing is taken from the queue of `trial` meanwhile."""
        os.killpg(self._worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._worker.pid, signal.SIGCONT)

    def settle(self) -> None:
        """Return when no task waits or is held."""
        lists = [*(keys.queue_list(QUEUE, step) for step in keys.PRIORITY_STEPS.values()), keys.unacked_key(QUEUE)]
        until(lambda: not self.redis.exists(*lists), "the task was seen to")

    def close(self) -> None:
        self.redis.close()
        self.stack.close()


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    valkey = Valkey()
    valkey.start()
    swarm = Swarm(valkey)
    yield swarm
    swarm.close()
    valkey.stop()


@pytest.fixture
async def front(swarm: Swarm) -> AsyncIterator[Front]:
    opened = await swarm.stack.front()
    yield opened
    await opened.close()


def new_call(**changes: Any) -> ToolCall:
    call_id = new_call_id()
    return ToolCall(id=call_id, operation=ONCE.full_name, arguments={"label": call_id, "seconds": 0.0}, **changes)


async def accept(swarm: Swarm, call: ToolCall, message: Message) -> None:
    """Have the ledger accept the call with this message."""
    broker = Broker(swarm.stack.valkey.url)
    ledger = Ledger(broker, retention_s=60, call_deadline_s=60, max_attempts=3)
    await ledger.accept(
        Submission(
            call=call,
            tool="trial",
            queue=QUEUE,
            effect=Effect.ONCE,
            message=json.dumps(message).encode(),
            request_hash=call.id,
            wake="ts:wake:nobody",
        )
    )
    await broker.close()


def envelope(field: str, value: object) -> Change:
    def change(message: Message) -> None:
        message["headers"][HEADER][field] = value

    return change


def headers(**changes: object) -> Change:
    def change(message: Message) -> None:
        message["headers"].update(changes)

    return change


def without_signature(message: Message) -> None:
    del message["headers"][HEADER]


def with_a_flipped_bit(message: Message) -> None:
    signature = bytearray(base64.b64decode(message["headers"][HEADER]["signature"]))
    signature[0] ^= 1
    message["headers"][HEADER]["signature"] = base64.b64encode(signature).decode()


ALTERED: dict[str, Change] = {
    "the version": envelope("v", 2),
    "the tenant": envelope("tenant", "another"),
    "the principal": envelope("principal", "another"),
    "the queue": envelope("queue", "tool.trial@w1"),
    "the arguments": envelope("arguments", "0" * 64),
    "the expiry": envelope("expires", time.time() + 86_400),
    "a field more": envelope("scope", "all"),
    "a flipped bit": with_a_flipped_bit,
    "no signature": envelope("signature", ""),
    "a signature that is no base64": envelope("signature", "§"),
    "no envelope": without_signature,
    "an envelope of another kind": headers(**{HEADER: "trust me"}),
    "another operation": headers(task="trial.verifiable"),
}


@pytest.mark.parametrize("what", ALTERED)
async def test_a_message_in_which_something_was_altered_runs_nothing_and_is_logged(swarm: Swarm, what: str) -> None:
    call = new_call()
    genuine = swarm.message(call)
    altered: Message = json.loads(json.dumps(genuine))
    ALTERED[what](altered)

    await accept(swarm, call, altered)
    swarm.wait_refused(call.id, altered["headers"]["task"])

    assert (swarm.state(call.id), swarm.effects(call)) == (State.ACCEPTED, 0)
    swarm.push(genuine)
    assert (swarm.wait_ended(call.id), swarm.effects(call)) == (State.SUCCEEDED, 1)


async def test_a_message_signed_with_another_key_runs_nothing(swarm: Swarm) -> None:
    call = new_call()

    await accept(swarm, call, swarm.message(call, signer=Signer(Ed25519PrivateKey.generate())))
    swarm.wait_refused(call.id, why="the task is not signed by a key")

    assert (swarm.state(call.id), swarm.effects(call)) == (State.ACCEPTED, 0)


async def test_a_message_that_was_signed_too_long_ago_runs_nothing(swarm: Swarm) -> None:
    call = new_call()

    await accept(swarm, call, swarm.message(call, ahead_s=-61))
    swarm.wait_refused(call.id, why="the task's signature has expired")

    assert (swarm.state(call.id), swarm.effects(call)) == (State.ACCEPTED, 0)


@pytest.mark.parametrize("queue", ["tool.spare", "tool.trial@w2"])
async def test_a_message_that_was_moved_to_another_queue_runs_nothing(swarm: Swarm, queue: str) -> None:
    call = new_call()

    await accept(swarm, call, swarm.message(call, queue=queue))
    swarm.wait_refused(call.id, why="the task was signed for another queue")

    assert (swarm.state(call.id), swarm.effects(call)) == (State.ACCEPTED, 0)


async def test_a_message_replayed_under_a_new_id_runs_nothing_even_with_a_record_of_that_id(swarm: Swarm) -> None:
    call = new_call()
    genuine = swarm.message(call)
    await accept(swarm, call, genuine)
    swarm.wait_ended(call.id)
    replay_id = new_call_id()
    replayed = json.loads(json.dumps(genuine).replace(call.id, replay_id))
    record = swarm.redis.hgetall(keys.call_key(call.id))
    del record[b"result"]
    record |= {b"state": b"accepted", b"call": record[b"call"].replace(call.id.encode(), replay_id.encode())}
    swarm.redis.hset(keys.call_key(replay_id), mapping=record)

    swarm.push(replayed)
    swarm.wait_refused(replay_id)

    assert (swarm.state(replay_id), swarm.effects(call)) == (State.ACCEPTED, 1)


async def test_a_genuine_message_queued_again_runs_nothing_while_it_runs_or_after_its_end(swarm: Swarm) -> None:
    call = new_call()
    call = ToolCall(id=call.id, operation=call.operation, arguments={"label": call.id, "seconds": 0.3})
    genuine = swarm.message(call)
    doubled: Message = json.loads(json.dumps(genuine))
    doubled["properties"]["delivery_tag"] = "doubled"
    swarm.redis.lpush(QUEUE, json.dumps(doubled))

    await accept(swarm, call, genuine)
    swarm.wait_ended(call.id)
    swarm.push(genuine)
    swarm.push(doubled)
    swarm.settle()

    assert (swarm.state(call.id), swarm.effects(call)) == (State.SUCCEEDED, 1)


async def test_a_call_whose_record_was_changed_in_the_ledger_fails_and_runs_nothing(swarm: Swarm) -> None:
    call = new_call()
    other = new_call()
    genuine = swarm.message(call)
    await accept(swarm, call, {**genuine, "headers": {**genuine["headers"], HEADER: None}})
    swarm.wait_refused(call.id)
    record = swarm.redis.hget(keys.call_key(call.id), "call")
    changed = json.loads(record) | {"arguments": other.arguments}
    swarm.redis.hset(keys.call_key(call.id), "call", json.dumps(changed))

    swarm.push(genuine)
    swarm.wait_ended(call.id)

    ended = json.loads(swarm.redis.hget(keys.call_key(call.id), "result"))
    assert (ended["status"], ended["error"]["code"]) == ("failed", "signature_refused")
    assert swarm.effects(call) + swarm.effects(other) == 0


FORGED: dict[str, Change] = {
    "a task of Celery's own": headers(task="celery.map"),
    "one that says it has expired": headers(expires="2000-01-01T00:00:00+00:00"),
    "a task that nobody has": headers(task="os.system"),
    "a task of another tool": headers(task="spare.store"),
    "a pickle": lambda message: message.update({"content-type": "application/x-python-serialize"}),
    "a body that is no JSON": lambda message: message.update(body=base64.b64encode(b"\x80\x04.").decode()),
    "one for later": headers(eta="2099-01-01T00:00:00+00:00"),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_forged_message_runs_nothing_and_the_worker_goes_on(swarm: Swarm, what: str) -> None:
    forged_call, next_call = new_call(), new_call()
    message = swarm.message(forged_call, signer=Signer(Ed25519PrivateKey.generate()))
    FORGED[what](message)

    await accept(swarm, forged_call, message)
    await accept(swarm, next_call, swarm.message(next_call))

    assert (swarm.wait_ended(next_call.id), swarm.effects(next_call)) == (State.SUCCEEDED, 1)
    assert (swarm.state(forged_call.id), swarm.effects(forged_call)) == (State.ACCEPTED, 0)
    swarm.settle()  # and no slot is taken for ever


async def test_the_message_of_a_fallback_is_signed_for_the_operation_and_the_queue_that_it_falls_to(
    swarm: Swarm, front: Front
) -> None:
    with swarm.paused():
        submitted = await front.submit(
            SubmitBody(operation="trial.store", arguments={"code": "upstream_unreachable"}), ME
        )
        fallback = swarm.redis.hget(keys.call_key(submitted.id), "fallback:1").split(b"\n")
    result = await front.result(submitted.id, ME, 20)
    header = json.loads(fallback[6])["headers"][HEADER]

    def verify(operation: str, queue: str) -> None:
        swarm.verifier.verify(header, call_id=submitted.id, operation=operation, queues=(queue,), now=time.time())

    verify("spare.store", "tool.spare")
    with pytest.raises(SignatureRefused):
        verify("spare.store", "tool.trial")
    with pytest.raises(SignatureRefused):
        verify("trial.store", "tool.spare")
    assert (result.status, result.meta.operation) == (State.SUCCEEDED, "spare.store")


async def test_a_dead_letter_is_retried_with_a_signature_of_its_own(swarm: Swarm, front: Front) -> None:
    with swarm.paused():
        first = await front.submit(SubmitBody(operation="trial.flaky", arguments={"label": "f", "failures": 3}), ME)
        first_message = swarm.stored_message(first.id)
    assert (await front.result(first.id, ME, 20)).status is State.FAILED
    with swarm.paused():
        (letter,) = (await front.dead("retry", DeadRequest(ids=(first.id,)), ME)).letters
        assert letter.retried_as is not None
        message = swarm.stored_message(letter.retried_as)
    again = await front.result(letter.retried_as, ME, 20)

    swarm.push(first_message)
    swarm.settle()

    assert again.status is State.SUCCEEDED
    assert message["headers"][HEADER]["signature"] != first_message["headers"][HEADER]["signature"]
    assert swarm.stack.marked().count("try f") == 4
    swarm.verifier.verify(
        message["headers"][HEADER], call_id=again.id, operation="trial.flaky", queues=(QUEUE,), now=time.time()
    )


async def test_what_celery_reads_of_a_genuine_message_is_not_signed_and_not_believed(swarm: Swarm) -> None:
    call = new_call()
    message = swarm.message(call)
    message["headers"] |= {"expires": "2000-01-01T00:00:00+00:00", "eta": "2099-01-01T00:00:00+00:00", "retries": 9}

    await accept(swarm, call, message)

    assert (swarm.wait_ended(call.id), swarm.effects(call)) == (State.SUCCEEDED, 1)


async def test_refused_tasks_are_counted(swarm: Swarm, front: Front) -> None:
    before = (await front.status()).ended["trial"].get("refused", 0)
    call = new_call()

    await accept(swarm, call, swarm.message(call, signer=Signer(Ed25519PrivateKey.generate())))
    swarm.wait_refused(call.id)

    async def is_counted() -> bool:
        return (await front.status()).ended["trial"].get("refused", 0) == before + 1

    await until_async(is_counted, "it was counted")

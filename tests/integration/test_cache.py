"""Calls that are answered from memory, or joined, through real workers and servers; and what breaks none of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.stack import ROOT, Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until, until_async
from toolswarm.errors import CallNotFound
from toolswarm.ids import new_call_id
from toolswarm.messages import CacheMode, Priority, SubmitBody, ToolCall, ToolResult
from toolswarm.states import State

ME = Caller()


@pytest.fixture(scope="module")
def one_cache() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cache(one_cache: Valkey, stack: Stack) -> Iterator[Valkey]:
    """The stack's cache server, empty; afterwards every key that is left must have an expiry."""
    with one_cache.client() as connected:
        client: Any = connected
        client.flushall()
        stack.settings |= {
            "TOOLSWARM_STORE__CACHE_URL": one_cache.url,
            "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
            "TOOLSWARM_TOOLS__MODULES": '["tests.servers.memo_tool"]',
        }
        (stack.folder / "things").mkdir()
        yield one_cache
        one_cache.signal(signal.SIGCONT)
        assert [key for key in client.scan_iter("ts:*") if client.ttl(key) == -1] == []


@pytest.fixture
async def front(cache: Valkey, stack: Stack) -> AsyncIterator[Front]:
    stack.start_worker("memo", "w1")
    opened = await stack.front()
    yield opened
    await opened.close()


def body(operation: str, *, mode: CacheMode = CacheMode.USE, **arguments: object) -> SubmitBody:
    return SubmitBody(operation=f"memo.{operation}", arguments=arguments, cache=mode)


async def ended(front: Front, accepted: ToolResult, who: Caller = ME) -> ToolResult:
    return accepted if accepted.status.terminal else await front.result(accepted.id, who, 30)


async def call(front: Front, operation: str, *, who: Caller = ME, **arguments: Any) -> ToolResult:
    return await ended(front, await front.submit(body(operation, **arguments), who), who)


def thing(stack: Stack, label: str, text: str) -> None:
    part = stack.folder / f"{label}.part"
    part.write_text(text)
    part.replace(stack.folder / "things" / label)


async def test_the_second_call_is_a_hit_that_leaves_no_record(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    first = await call(front, "look", label="a")

    second = await call(front, "look", label="a")

    assert (first.value, first.meta.cache, first.meta.worker) == ("text", "miss", "w1")
    assert (second.value, second.meta.cache, second.status) == ("text", "hit", State.SUCCEEDED)
    assert second.id != first.id
    assert second.meta.age_s is not None
    assert second.meta.age_s < 10
    assert len(stack.marked()) == 1
    with pytest.raises(CallNotFound):
        await front.result(second.id, ME, 0)


async def test_what_was_written_is_read_at_once_by_every_front(stack: Stack, front: Front) -> None:
    other = await stack.front()

    for number in range(25):
        await call(front, "change", label="A" if number % 2 else "a", text=str(number))
        seen = await asyncio.gather(*(call(one, "look", label="a") for one in (front, other, front, other)))
        assert {result.value for result in seen} == {str(number)}

    await other.close()
    assert len(stack.marked()) <= 50


async def test_a_caller_may_have_it_run_anew_or_leave_no_trace(stack: Stack, front: Front) -> None:
    thing(stack, "a", "old")
    await call(front, "look", label="a")
    thing(stack, "a", "new")

    assert (await call(front, "look", label="a")).value == "old"
    assert (await call(front, "look", label="a", mode=CacheMode.SKIP)).value == "new"
    assert (await call(front, "look", label="a")).value == "old"
    assert (await call(front, "look", label="a", mode=CacheMode.REFRESH)).value == "new"
    assert (await call(front, "look", label="a")).value == "new"


async def test_a_value_that_is_too_large_for_its_result_is_not_remembered_by_its_beginning(
    stack: Stack, front: Front
) -> None:
    results = [await call(front, "much", size_bytes=9_000_000) for _ in range(2)]

    assert {result.meta.cache for result in results} == {"miss"}
    assert all(result.meta.whole is not None and result.meta.whole.kept for result in results)
    assert stack.marked() == ["much", "much"]


async def test_that_there_is_no_such_thing_is_remembered_until_there_is(stack: Stack, front: Front) -> None:
    first = await call(front, "look", label="a")
    second = await call(front, "look", label="a")

    await call(front, "change", label="a", text="now")

    assert (first.status, first.meta.cache) == (State.FAILED, "miss")
    assert (second.status, second.meta.cache) == (State.FAILED, "hit")
    assert second.error is not None
    assert second.error.code == "not_found"
    assert (await call(front, "look", label="a")).value == "now"


async def test_an_old_answer_is_given_while_it_is_refreshed(stack: Stack, front: Front) -> None:
    thing(stack, "a", "old")
    await call(front, "look_lazily", label="a")
    thing(stack, "a", "new")
    seen: list[tuple[object, str]] = []

    async def refreshed() -> bool:
        result = await call(front, "look_lazily", label="a")
        seen.append((result.value, result.meta.cache))
        return bool(result.value == "new")

    await until_async(refreshed, "the new text is seen")

    assert {how for value, how in seen if value == "old"} <= {"hit", "stale"}
    assert ("old", "stale") in seen
    assert stack.marked().count("lazily a") <= 4


async def test_an_old_answer_is_given_in_place_of_a_failure_that_may_pass(stack: Stack, front: Front) -> None:
    thing(stack, "a", "old")
    await call(front, "look_bravely", label="a")
    (stack.folder / "things" / "a").unlink()

    async def failed_and_was_rescued() -> bool:
        result = await call(front, "look_bravely", label="a")
        assert (result.status, result.value) == (State.SUCCEEDED, "old")
        return result.meta.cache == "stale" and result.meta.worker == "w1"

    await until_async(failed_and_was_rescued, "the worker has nothing better")


async def test_after_an_unknown_outcome_nothing_older_is_shown(stack: Stack, front: Front) -> None:
    thing(stack, "a", "old")
    await call(front, "look", label="a")
    stack.start_beat()
    hanging = await front.submit(body("change_and_hang", label="a", text="new"), ME)
    until(lambda: "hang a" in stack.marked(), "the change has happened")

    await front.cancel(hanging.id, ME)
    outcome = await ended(front, hanging)
    looks = [await call(front, "look", label="a") for _ in range(3)]

    assert outcome.status is State.UNKNOWN
    assert {(look.value, look.meta.cache) for look in looks} == {("new", "miss")}


async def test_no_answer_crosses_tenants(stack: Stack, front: Front) -> None:
    tenants = [Caller(f"tenant-{number}", principal) for number in range(8) for principal in ("ann", "bob")]

    for _ in range(3):
        results = await asyncio.gather(*(call(front, "who_am_i", who=tenant) for tenant in tenants * 4))
        told = [result.value for result in results]

        assert told == [f"secret of {tenant.tenant}" for tenant in tenants * 4]


async def test_another_configuration_of_the_tool_finds_nothing_of_the_one_before(stack: Stack, cache: Valkey) -> None:
    stack.settings["TOOLSWARM_GITHUB__TOKEN"] = "token-of-ann"
    first = stack.start_worker("github", "g1", TOOLSWARM_GITHUB__TOKEN="token-of-ann")
    front = await stack.front()
    before = {one.full_name: one.version for one in await front.operations()}
    stack.kill(first)
    stack.start_worker("github", "g2", TOOLSWARM_GITHUB__TOKEN="token-of-bob")

    async def changed() -> bool:
        return {one.full_name: one.version for one in await front.operations()} != before

    await until_async(changed, "the catalogue has changed")
    after = {one.full_name: one.version for one in await front.operations()}
    await front.close()

    assert not set(before.values()) & set(after.values())
    with stack.valkey.client() as connected:
        client: Any = connected
        assert b"token-of" not in client.hget("ts:catalogue", "github")


async def test_who_joins_does_not_lose_the_call_when_somebody_cancels(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    first = await front.submit(body("look", label="a", seconds=0.5), ME)
    second = await front.submit(body("look", label="a", seconds=0.5), ME)

    await front.cancel(first.id, ME)

    assert second.id == first.id
    assert second.meta.cache == "coalesced"
    assert (await ended(front, second)).value == "text"


async def test_a_call_that_nobody_has_joined_is_cancelled_and_the_next_one_runs(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    first = await front.submit(body("look", label="a", seconds=1.0), ME)
    await front.cancel(first.id, ME)

    second = await front.submit(body("look", label="a", seconds=1.0), ME)

    assert second.id != first.id
    assert (await ended(front, first)).status is State.CANCELLED
    assert (await ended(front, second)).value == "text"


async def test_calls_with_a_deadline_of_their_own_neither_join_nor_lead(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    hurried = SubmitBody(operation="memo.look", arguments={"label": "a", "seconds": 0.5}, deadline=time.time() + 30)
    ids = {(await front.submit(hurried, ME)).id for _ in range(2)} | {
        (await front.submit(body("look", label="a", seconds=0.5), ME)).id for _ in range(2)
    }

    results = [await front.result(one, ME, 30) for one in ids]

    assert len(ids) == 3
    assert {result.value for result in results} == {"text"}


async def test_an_urgent_call_does_not_wait_for_one_that_may_wait(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    patient = SubmitBody(operation="memo.look", arguments={"label": "a", "seconds": 0.5}, priority=Priority.BACKGROUND)
    first = await front.submit(patient, ME)

    second = await front.submit(body("look", label="a", seconds=0.5), ME)
    third = await front.submit(patient, ME)

    assert second.id != first.id
    assert third.id == second.id
    assert {(await ended(front, one)).value for one in (first, second)} == {"text"}


async def test_who_leads_and_is_never_accepted_holds_nobody_up(stack: Stack, front: Front) -> None:
    thing(stack, "a", "text")
    operations = {one.full_name: one for one in await front.operations()}
    wanted = ToolCall(id=new_call_id(), operation="memo.look", arguments={"label": "a"})
    memory = front._remembered.cache  # pyright: ignore[reportPrivateUsage]  # as a gateway that dies does
    key = memory.key(operations["memo.look"], wanted)
    assert key is not None
    await memory.lease(key, wanted.id, rank=0)
    began_at = time.monotonic()

    results = await asyncio.gather(*(call(front, "look", label="a") for _ in range(20)))

    assert {result.value for result in results} == {"text"}
    assert len(stack.marked()) == 1
    assert time.monotonic() - began_at < 3


async def test_who_writes_and_then_reads_does_not_join_a_read_that_began_before(stack: Stack, front: Front) -> None:
    thing(stack, "a", "old")
    before = await front.submit(body("look", label="a", seconds=1.0), ME)
    await until_async(lambda: asyncio.to_thread(stack.has_marked, 1), "it has been read")
    joined = await front.submit(body("look", label="a", seconds=1.0), ME)
    await call(front, "change", label="a", text="new")

    after = await front.submit(body("look", label="a", seconds=1.0), ME)

    assert joined.id == before.id != after.id
    assert (await ended(front, before)).value == "old"
    assert (await ended(front, after)).value == "new"
    assert (await call(front, "look", label="a", seconds=1.0)).value == "new"


async def test_a_read_of_a_worker_that_the_cache_does_not_reach_is_joined_only_before_it_runs(
    stack: Stack, cache: Valkey
) -> None:
    thing(stack, "a", "old")
    stack.start_worker("memo", "w1", TOOLSWARM_STORE__CACHE_URL=f"unix://{stack.folder}/nobody.sock")
    front = await stack.front()
    before = await front.submit(body("look", label="a", seconds=1.0), ME)
    await until_async(lambda: asyncio.to_thread(stack.has_marked, 1), "it has been read")
    await call(front, "change", label="a", text="new")

    after = await front.submit(body("look", label="a", seconds=1.0), ME)
    texts = [(await ended(front, one)).value for one in (before, after)]
    await front.close()

    assert texts == ["old", "new"]


async def test_when_the_worker_of_all_is_killed_they_go_on_within_the_lease(stack: Stack, cache: Valkey) -> None:
    thing(stack, "a", "text")
    stack.start_beat()
    worker = stack.start_worker("memo", "w1")
    front = await stack.front()
    asking = [asyncio.create_task(call(front, "look", label="a", seconds=0.7)) for _ in range(50)]
    await until_async(lambda: asyncio.to_thread(stack.has_marked, 1), "the read has begun")
    killed_at = time.monotonic()
    stack.kill(worker)
    stack.start_worker("memo", "w2")

    results = await asyncio.gather(*asking)
    await front.close()

    assert {(result.value, result.meta.worker) for result in results} == {("text", "w2")}
    assert len(stack.marked()) == 2
    assert time.monotonic() - killed_at < 7


class Heard:
    """Counts the commands that clients send to a server; what a script does within it is one."""

    def __init__(self, server: Valkey) -> None:
        self.commands: Counter[str] = Counter()
        self._client: Any = server.client()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Heard":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.set("heard", "enough")
        self._thread.join(10)
        self._client.delete("heard")
        self._client.close()

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            self._listening.set()
            for command in monitor.listen():
                words = command["command"].split()
                if words[:2] == ["SET", "heard"]:
                    return
                if command["client_type"] != "lua":
                    self.commands[words[0].upper()] += 1


async def test_a_thousand_at_once_in_four_processes_are_one_run(stack: Stack, front: Front, cache: Valkey) -> None:
    thing(stack, "a", "text")
    thing(stack, "b", "text")
    await asyncio.gather(*(call(front, "look", label="b") for _ in range(2)))  # the servers know our scripts
    arguments = json.dumps({"label": "a", "seconds": 1.0})
    askers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.servers.askers", str(stack.folder), str(number), "250"),
                *("memo.look", arguments),
            ],
            cwd=ROOT,
            env=os.environ | stack.settings | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    until(lambda: len(list(stack.folder.glob("*.ready"))) == 4, "all are ready")

    with Heard(stack.valkey) as at_broker, Heard(cache) as at_cache:
        (stack.folder / "go").touch()
        said = await asyncio.gather(*(asyncio.to_thread(asker.communicate, timeout=60) for asker in askers))
    answers = [json.loads(out) for out, _ in said]

    took_s = sorted(took_s for answer in answers for took_s in answer["took_s"])
    commands = at_broker.commands + at_cache.commands
    print(took_s[0], took_s[500], took_s[-10], dict(at_broker.commands), dict(at_cache.commands))
    assert [answer["errors"] for answer in answers] == [{}] * 4
    assert [answer["outcomes"] for answer in answers] == [{"succeeded text": 250}] * 4
    assert len({one for answer in answers for one in answer["ids"]}) == 1
    assert stack.marked() == ["look b", "look a"]
    assert commands.total() <= 100
    assert took_s[990] <= 1.3


@pytest.mark.parametrize("harm", ["lost", "hangs", "full"])
async def test_without_a_cache_server_calls_succeed_as_fast(
    stack: Stack, front: Front, cache: Valkey, harm: str
) -> None:
    thing(stack, "a", "text")
    await call(front, "look", label="a")

    if harm == "full":
        with cache.client() as connected:
            client: Any = connected
            client.config_set("maxmemory", 1)
    elif harm == "hangs":
        cache.signal(signal.SIGSTOP)
    else:
        cache.kill()
    slowest_s = 0.0
    for number in range(30):
        began_at = time.monotonic()
        await call(front, "change", label="a", text=str(number))
        seen = await call(front, "look", label="a")
        slowest_s = max(slowest_s, time.monotonic() - began_at)
        assert seen.value == str(number)
    if harm == "full":
        with cache.client() as connected:
            client = connected
            client.config_set("maxmemory", 0)
    elif harm == "hangs":
        cache.signal(signal.SIGCONT)
    else:
        cache.start()

    async def remembered_again() -> bool:
        result = await call(front, "look", label="a")
        assert result.value == "29"
        return result.meta.cache == "hit"

    await until_async(remembered_again, "answers are remembered again")
    assert slowest_s < 2

"""What is tried next when a tool cannot be had, and what must not be."""

from collections.abc import AsyncIterator

import pytest

from routing.front import Caller, Front
from store.configuration import load
from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack
from tests.servers.waiting import until_async
from toolswarm import AsyncClient
from toolswarm.errors import ConfigurationError, InvalidRequest, PermissionDenied
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()
OPERATOR = Caller(operator=True)
CHAINS = '{"trial": ["spare"], "trial.store": ["spare.store"]}'


@pytest.fixture
async def chained(stack: Stack) -> AsyncIterator[Front]:
    """A front with chains, and a worker of each tool."""
    stack.settings |= {"TOOLSWARM_ROUTING__FALLBACKS": CHAINS, "TOOLSWARM_ROUTING__DEFAULT_TOOL": "trial"}
    stack.start_beat()
    stack.start_worker("trial", "w1")
    stack.start_worker("spare", "s1")
    front = await stack.front()
    yield front
    await front.close()


async def call(front: Front, operation: str, code: str) -> ToolResult:
    submitted = await front.submit(SubmitBody(operation=operation, arguments={"code": code}), ME)
    return await front.result(submitted.id, ME, 30)


async def test_a_read_that_could_not_begin_is_answered_by_the_next_tool(stack: Stack, chained: Front) -> None:
    result = await call(chained, "fetch", "upstream_unreachable")

    assert (result.status, result.value) == (State.SUCCEEDED, "from the spare tool")
    assert (result.meta.tool, result.meta.operation, result.meta.fallback_from) == (
        "spare",
        "spare.fetch",
        "trial.fetch",
    )
    assert stack.marked() == ["trial upstream_unreachable", "spare upstream_unreachable"]


async def test_who_names_the_tool_gets_that_tool(stack: Stack, chained: Front) -> None:
    result = await call(chained, "trial.fetch", "upstream_unreachable")

    assert (result.status, result.meta.fallback_from) == (State.FAILED, None)
    assert "spare upstream_unreachable" not in stack.marked()


async def test_a_write_lands_elsewhere_only_when_the_operator_says_so_for_that_operation(chained: Front) -> None:
    result = await call(chained, "store", "upstream_unreachable")

    assert (result.status, result.meta.fallback_from) == (State.SUCCEEDED, "trial.store")


@pytest.mark.parametrize("code", ["host_key", "authentication", "permission", "path_refused", "not_found"])
async def test_an_answer_or_a_matter_of_trust_never_falls_back(stack: Stack, chained: Front, code: str) -> None:
    result = await call(chained, "fetch", code)

    assert (result.status, result.error and result.error.code) == (State.FAILED, code)
    assert f"spare {code}" not in stack.marked()


async def test_a_chain_can_be_set_while_the_swarm_runs_and_given_back(stack: Stack, front: Front) -> None:
    stack.settings["TOOLSWARM_ROUTING__DEFAULT_TOOL"] = "trial"
    stack.start_beat()
    stack.start_worker("trial", "w1")
    stack.start_worker("spare", "s1")

    await front.set_fallbacks("trial.fetch", ["spare.fetch"], OPERATOR)
    caught = await call(front, "trial.fetch", "upstream_unreachable")
    with pytest.raises(InvalidRequest, match=r"comes back to trial\.fetch"):
        await front.set_fallbacks("spare.fetch", ["trial.fetch"], OPERATOR)
    await front.set_fallbacks("trial.fetch", None, OPERATOR)

    assert (caught.status, caught.meta.fallback_from) == (State.SUCCEEDED, "trial.fetch")
    assert "trial.fetch" not in await front.fallbacks()


async def test_a_chain_of_writes_that_must_not_run_twice_is_never_followed(stack: Stack, chained: Front) -> None:
    await chained.set_fallbacks("trial.slow_once", ["spare.fetch"], OPERATOR)

    route = await chained.route(SubmitBody(operation="trial.slow_once"), ME)

    assert route.fallbacks == ()


async def test_only_the_operators_key_may_set_a_chain_and_every_process_sees_it(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    stack.start_worker("spare", "s1")
    stack.start_worker("intake", "i1", MCP_OPERATOR_KEY="tsk_operator")
    url = start_gateway(stack, MCP_OPERATOR_KEY="tsk_operator")
    fetch = SubmitBody(operation="trial.fetch")
    assert (await front.route(fetch, ME)).fallbacks == ()

    for where in (url, stack.valkey.url):
        async with AsyncClient(where, API_KEY, timeout_s=20) as tenant:
            with pytest.raises(PermissionDenied):
                await tenant.set_fallback_chain("trial.fetch", ["spare.fetch"])
    async with AsyncClient(url, "tsk_operator", timeout_s=20) as operator:
        chains = await operator.set_fallback_chain("trial.fetch", ["spare.fetch"])

    async def is_seen() -> bool:
        return (await front.route(fetch, ME)).fallbacks == ("spare.fetch",)

    assert chains["trial.fetch"] == ("spare.fetch",)
    await until_async(is_seen, "the other process follows", within_s=5)


async def test_who_has_only_the_callers_key_may_set_nothing(front: Front) -> None:
    with pytest.raises(PermissionDenied):
        await front.set_fallbacks("trial", ["spare"], ME)


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ('{"desktop": ["droplet"], "droplet": ["desktop"]}', "comes back to desktop"),
        ('{"desktop": ["desktop"]}', "comes back to desktop"),
        ('{"desktop": ["droplet.read_file"]}', "a tool falls back to tools"),
    ],
)
def test_a_chain_that_comes_back_to_where_it_began_is_refused_at_load_time(chains: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load({"TOOLSWARM_ROUTING__FALLBACKS": chains})

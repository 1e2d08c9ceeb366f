"""What is tried next when a tool cannot be had, and what must not be."""

from collections.abc import AsyncIterator

import pytest

from routing.front import Caller, Front
from store.configuration import load
from tests.servers.stack import Stack
from toolswarm.errors import ConfigurationError
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()
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

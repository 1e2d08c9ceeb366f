"""The tasks extension: durable handles, questions within a task, and two gateways that know the same tasks."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import mcp_types as types
import pytest

from routing.front import Caller
from tests.gateway.mcp_stack import Swarm, swarm
from tests.servers.gateway import start_gateway_process
from tests.servers.mcp_clients import TASKS, ask, request
from tests.servers.waiting import until_async
from toolswarm.messages import SubmitBody

CAPABLE: dict[str, Any] = {"extensions": {TASKS: {}}, "elicitation": {}}


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(TOOLSWARM_MCP__TASK_AFTER_S="0.3", TOOLSWARM_MCP__TASK_ONLY='["conformance.failing_job"]') as found:
        yield found


async def call(url: str, tool: str, /, **arguments: Any) -> dict[str, Any]:
    answer = await ask(url, "tools/call", {"name": tool, "arguments": arguments}, **CAPABLE)
    return dict(answer["result"])


async def get(url: str, task_id: str) -> dict[str, Any]:
    return dict((await ask(url, "tasks/get", {"taskId": task_id}, **CAPABLE))["result"])


async def reaches(url: str, task_id: str, status: str) -> dict[str, Any]:
    async def is_there() -> bool:
        return bool((await get(url, task_id))["status"] == status)

    await until_async(is_there, f"the task is {status}")
    return await get(url, task_id)


async def test_a_quick_call_is_answered_at_once(running: Swarm) -> None:
    result = await call(running.url, "conformance_greet", name="World")

    assert result["resultType"] == "complete"
    assert result["content"][0]["text"] == "Hello, World!"


async def test_a_handle_is_known_to_every_gateway_at_once(running: Swarm) -> None:
    handle = await call(running.url, "conformance_slow_compute", seconds=1.0, label="far")

    seen = await get(running.other_url, handle["taskId"])
    done = await reaches(running.other_url, handle["taskId"], "completed")

    assert handle["resultType"] == "task"
    assert seen["status"] == "working"
    assert done["result"]["content"][0]["text"] == "computed far"
    assert done["createdAt"] == handle["createdAt"] <= done["lastUpdatedAt"]


async def test_a_client_without_the_extension_waits(running: Swarm) -> None:
    params = {"name": "conformance_slow_compute", "arguments": {"seconds": 0.6}}

    answer = await ask(running.url, "tools/call", params)

    assert answer["result"]["resultType"] == "complete"


async def test_what_is_only_a_task_is_refused_to_a_client_without_the_extension(running: Swarm) -> None:
    answer = await ask(running.url, "tools/call", {"name": "conformance_failing_job", "arguments": {}})

    assert answer["error"]["code"] == types.MISSING_REQUIRED_CLIENT_CAPABILITY
    assert answer["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


async def test_a_failed_call_is_a_completed_task_with_an_error(running: Swarm) -> None:
    handle = await call(running.url, "conformance_failing_job")

    done = await reaches(running.url, handle["taskId"], "completed")

    assert done["result"]["isError"] is True
    assert done["result"]["content"][0]["text"].startswith("as_asked: ")


async def test_a_crash_is_a_failed_task(running: Swarm) -> None:
    handle = await call(running.url, "conformance_protocol_error_job")

    failed = await reaches(running.url, handle["taskId"], "failed")

    assert failed["error"]["code"] == types.INTERNAL_ERROR
    assert "result" not in failed


async def test_a_task_is_cancelled_at_another_gateway(running: Swarm) -> None:
    handle = await call(running.url, "conformance_slow_compute", seconds=60.0)

    answer = await ask(running.other_url, "tasks/cancel", {"taskId": handle["taskId"]}, **CAPABLE)
    again = await ask(running.url, "tasks/cancel", {"taskId": handle["taskId"]}, **CAPABLE)
    await reaches(running.url, handle["taskId"], "cancelled")

    assert answer["result"]["resultType"] == again["result"]["resultType"] == "complete"


async def test_a_task_asks_and_goes_on_with_the_answers(running: Swarm) -> None:
    handle = await call(running.url, "conformance_multi_input")
    asking = await reaches(running.other_url, handle["taskId"], "input_required")
    first, second = asking["inputRequests"]

    await answer(running.url, handle["taskId"], first)
    half = await get(running.other_url, handle["taskId"])
    await asyncio.gather(  # at both gateways at once: one round all the same
        answer(running.url, handle["taskId"], second), answer(running.other_url, handle["taskId"], second)
    )
    done = await reaches(running.url, handle["taskId"], "completed")

    assert asking["inputRequests"][first]["method"] == "elicitation/create"
    assert list(half["inputRequests"]) == [second]
    assert "'name': 'me'" in done["result"]["content"][0]["text"]


async def test_a_task_that_asks_can_be_cancelled(running: Swarm) -> None:
    handle = await call(running.url, "conformance_confirm_delete", filename="x")
    asking = await reaches(running.url, handle["taskId"], "input_required")

    await ask(running.url, "tasks/cancel", {"taskId": handle["taskId"]}, **CAPABLE)
    await answer(running.url, handle["taskId"], next(iter(asking["inputRequests"])))

    assert (await get(running.url, handle["taskId"]))["status"] == "cancelled"


@pytest.mark.parametrize("task_id", [str(uuid4()), "no-id", "../../x"])
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_an_id_that_is_none_is_unknown(running: Swarm, method: str, task_id: str) -> None:
    answered = await ask(running.url, method, {"taskId": task_id, "inputResponses": {}}, **CAPABLE)

    assert answered["error"] == {"code": types.INVALID_PARAMS, "message": "Unknown task"}


async def test_the_task_of_another_tenant_is_unknown(running: Swarm) -> None:
    front = await running.stack.front()
    foreign = await front.submit(
        SubmitBody(operation="conformance.greet", arguments={"name": "x"}), Caller("other", "other")
    )
    await front.close()

    answered = await ask(running.url, "tasks/get", {"taskId": foreign.id}, **CAPABLE)

    assert answered["error"] == {"code": types.INVALID_PARAMS, "message": "Unknown task"}


async def test_a_header_that_names_another_task_is_refused(running: Swarm) -> None:
    asked = request("tasks/get", {"taskId": str(uuid4())}, **CAPABLE)
    asked["headers"]["mcp-name"] = str(uuid4())

    async with httpx.AsyncClient(trust_env=False) as http:
        answered = await http.post(f"{running.url}/mcp", **asked)

    assert answered.status_code == 400
    assert answered.json()["error"]["code"] == types.HEADER_MISMATCH


async def test_a_gateway_that_shuts_down_hands_over_what_it_waits_for(running: Swarm) -> None:
    process, leaving = start_gateway_process(running.stack, TOOLSWARM_MCP__TASK_AFTER_S="30")
    before = len(running.stack.marked())
    params = {"name": "trial_slow_once", "arguments": {"label": "told", "seconds": 2.0}}
    for_task = asyncio.create_task(call(leaving, "trial_slow_once", label="handed", seconds=2.0))
    for_text = asyncio.create_task(ask(leaving, "tools/call", params))

    async def both_run() -> bool:
        return running.stack.has_marked(before + 2)

    await until_async(both_run, "both calls run")
    process.send_signal(signal.SIGTERM)
    handle, told = await for_task, (await for_text)["result"]
    found = (await ask(running.url, "tools/call", params))["result"]
    done = await reaches(running.other_url, handle["taskId"], "completed")

    assert handle["resultType"] == "task"
    assert done["result"]["content"][0]["text"] == "handed"
    assert told["content"][0]["text"].startswith("still_running: ")
    assert found["content"][0]["text"] == "told"
    assert len(running.stack.marked()) == before + 2


async def answer(url: str, task_id: str, name: str) -> None:
    responses = {name: {"action": "accept", "content": {"name": "me", "confirm": True}}}
    answered = await ask(url, "tasks/update", {"taskId": task_id, "inputResponses": responses}, **CAPABLE)
    assert answered["result"]["resultType"] == "complete"

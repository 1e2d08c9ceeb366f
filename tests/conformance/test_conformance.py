"""The official MCP conformance suite against a real gateway, whose tools real workers run."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.suite import run_suite
from tests.servers.gateway import free_port
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until

GATEWAY = "tests.conformance.fixture_gateway"

pytestmark = pytest.mark.needs_node


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    valkey = Valkey()
    valkey.start()
    stack = Stack(valkey)
    stack.settings["TOOLSWARM_TOOLS__MODULES"] = '["tests.conformance.fixture_tool"]'
    port = free_port()
    try:
        stack.start_worker("conformance", "w1")
        settings = {
            "TOOLSWARM_GATEWAY__PORT": str(port),
            "TOOLSWARM_MCP__NAMES": "short",  # the suite calls `greet`
            "TOOLSWARM_MCP__SESSIONS": "true",
            "TOOLSWARM_MCP__TASK_ONLY": '["conformance.failing_job"]',
            "TOOLSWARM_MCP__TASK_AFTER_S": "0.5",
        }
        process = stack.start(GATEWAY, settings=settings)

        def is_ready() -> bool:
            assert process.poll() is None, stack.log(GATEWAY)
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(is_ready, "the gateway is ready")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        stack.close()
        valkey.stop()


@pytest.mark.parametrize(
    ("arguments", "scenarios", "checks"),
    [
        pytest.param(("--spec-version", "2026-07-28"), 40, 150, id="2026-07-28"),
        pytest.param(("--spec-version", "2025-11-25"), 33, 84, id="2025-11-25"),
        pytest.param((), 65, 234, id="all-with-tasks"),
    ],
)
def test_every_scenario_passes(url: str, arguments: tuple[str, ...], scenarios: int, checks: int) -> None:
    run = run_suite(url, *arguments)

    print(run.stdout[run.stdout.find("=== SUMMARY") :])
    total = re.search(r"Total: (\d+) passed", run.stdout)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert total is not None
    assert int(total[1]) >= checks
    assert len(re.findall(r"^[✓✗~] [a-z0-9-]+: ", run.stdout, re.MULTILINE)) >= scenarios

"""`toolswarm cache` and `--refresh`, from the command line through a gateway to a worker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until


@pytest.fixture
def swarm(stack: Stack) -> Iterator[dict[str, str]]:
    """A gateway, a worker and a cache; how a client finds them."""
    cache = Valkey()
    cache.start()
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": cache.url,
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_TOOLS__MODULES": '["tests.servers.memo_tool"]',
    }
    (stack.folder / "things").mkdir()
    (stack.folder / "things" / "a").write_text("one")
    stack.start_worker("memo", "w1")
    yield {**os.environ, "TOOLSWARM_URL": start_gateway(stack), "TOOLSWARM_API_KEY": API_KEY}
    cache.stop()


def toolswarm(swarm: dict[str, str], *words: str, status: int = 0) -> Any:
    program = str(Path(sys.executable).parent / "toolswarm")
    done = subprocess.run([program, *words, "--json"], env=swarm, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_a_remembered_answer_is_shown_voided_and_warmed(swarm: dict[str, str], stack: Stack) -> None:
    look = ("call", "memo.look", "label=a")
    first, second = toolswarm(swarm, *look), toolswarm(swarm, *look)
    entry = toolswarm(swarm, "cache", "get", "memo.look", "label=a")["entry"]

    assert (first["meta"].get("cache", "miss"), second["meta"]["cache"]) == ("miss", "hit")
    assert (entry["remembered"], entry["value"], entry["tags"]) == (True, "one", ["thing:a"])

    (stack.folder / "things" / "a").write_text("two")
    assert toolswarm(swarm, *look)["value"] == "one"
    assert toolswarm(swarm, "cache", "invalidate", "thing:a")["invalidated"] == ["thing:a"]
    assert toolswarm(swarm, "cache", "get", "memo.look", "label=a", status=1)["entry"].get("remembered", False) is False
    assert toolswarm(swarm, *look)["value"] == "two"

    (stack.folder / "things" / "a").write_text("three")
    assert toolswarm(swarm, *look, "--refresh")["value"] == "three"
    assert toolswarm(swarm, *look)["meta"]["cache"] == "hit"

    page: dict[str, Any] = {}

    def is_popular() -> bool:
        page.update(toolswarm(swarm, "cache", "stats"))
        return bool(page.get("popular"))

    until(is_popular, "the call is counted")
    runs = stack.marked().count("look a")
    warmed = toolswarm(swarm, "cache", "warm", "--tool", "memo")["popular"]

    assert page["stats"]["counts"]["hit"] >= 2
    assert [one["operation"] for one in warmed] == ["memo.look"]
    until(lambda: stack.marked().count("look a") == runs + 1, "it was run again for nobody")

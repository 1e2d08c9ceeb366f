"""Files are read anew each time, unless the operator says otherwise: then our own writes and commands void them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from toolswarm.messages import SubmitBody, ToolResult

ME = Caller()


@pytest.fixture
def cache(stack: Stack) -> Iterator[None]:
    server = Valkey()
    server.start()
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": server.url,
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_DESKTOP__WORKSPACES": str(stack.folder / "workspaces"),
    }
    yield
    server.stop()


@pytest.fixture
async def front(cache: None, stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    """Two desktop workers: what one remembers the other must void."""
    stack.settings |= getattr(request, "param", {})
    for name in ("d1", "d2"):
        stack.start_worker("desktop", name)
    opened = await stack.front()
    yield opened
    await opened.close()


async def call(front: Front, operation: str, who: Caller = ME, **arguments: Any) -> ToolResult:
    accepted = await front.submit(SubmitBody(operation=f"desktop.{operation}", arguments=arguments), who)
    result = accepted if accepted.status.terminal else await front.result(accepted.id, who, 30)
    assert result.error is None, result.error
    return result


async def test_a_file_that_another_program_changes_is_read_anew(stack: Stack, front: Front) -> None:
    await call(front, "write_file", path="a.txt", content="one\n")
    first = await call(front, "read_file", path="a.txt")
    (stack.folder / "workspaces" / ME.tenant / "a.txt").write_text("two\n")

    second = await call(front, "read_file", path="a.txt")

    assert (first.value["content"], second.value["content"]) == ("one\n", "two\n")
    assert second.meta.cache == "miss"


REMEMBERED = {"TOOLSWARM_CACHE__TTL_S": '{"desktop.read_file": 60, "desktop.list_directory": 60}'}
ECHO = {"argv": ["cp", "a.txt", "b.txt"]}


@pytest.mark.parametrize("front", [REMEMBERED], indirect=True)
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("write_file", {"path": "a.txt", "content": "two\n"}),
        ("append_file", {"path": "a.txt", "content": "two\n"}),
        ("edit_file", {"path": "a.txt", "edits": [{"old": "one", "new": "two", "count": 1}]}),
        ("copy", {"source": "a.txt", "destination": "b.txt"}),
        ("move", {"source": "a.txt", "destination": "b.txt"}),
        ("make_directory", {"path": "folder"}),
        ("run_command", ECHO),
    ],
)
async def test_what_an_operator_has_remembered_is_void_after_each_write(
    front: Front, operation: str, arguments: dict[str, Any]
) -> None:
    await call(front, "write_file", path="a.txt", content="one\n")
    listed = [await call(front, "list_directory", path=".") for _ in range(2)]

    await call(front, operation, **arguments)

    assert [one.meta.cache for one in listed] == ["miss", "hit"]
    assert (await call(front, "list_directory", path=".")).meta.cache == "miss"


@pytest.mark.parametrize("front", [REMEMBERED], indirect=True)
async def test_tenants_with_a_file_of_the_same_name_see_their_own(front: Front) -> None:
    ann, bob = Caller("ann", "a"), Caller("bob", "b")
    for who in (ann, bob):
        await call(front, "write_file", who, path="a.txt", content=who.tenant)

    found = [await call(front, "read_file", who, path="a.txt") for who in (ann, bob, ann, bob)]

    assert [one.value["content"] for one in found] == ["ann", "bob", "ann", "bob"]
    assert [one.meta.cache for one in found] == ["miss", "miss", "hit", "hit"]

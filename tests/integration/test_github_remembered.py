"""Reads of GitHub are answered from memory until something of ours changes what they are of, however it is named."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.github import FakeGithub
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from toolswarm.messages import SubmitBody, ToolResult

ME = Caller()
TOKEN = "ghp_ann"


@pytest.fixture
def fake() -> Iterator[FakeGithub]:
    with FakeGithub() as github:
        github.token("ann", token=TOKEN)
        for name in ("weather", "other"):
            github.repository(f"ann/{name}", {"README.md": "# Demo"})
        yield github


@pytest.fixture
async def front(stack: Stack, fake: FakeGithub) -> AsyncIterator[Front]:
    cache = Valkey()
    cache.start()
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": cache.url,
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_GITHUB__BASE_URL": fake.url,
        "TOOLSWARM_GITHUB__TOKEN": TOKEN,
    }
    stack.start_worker("github", "g1")
    opened = await stack.front()
    yield opened
    await opened.close()
    cache.stop()


async def call(front: Front, operation: str, **arguments: Any) -> ToolResult:
    accepted = await front.submit(SubmitBody(operation=f"github.{operation}", arguments=arguments), ME)
    result = accepted if accepted.status.terminal else await front.result(accepted.id, ME, 30)
    assert result.error is None or result.error.code == "not_found", result.error
    return result


async def how(front: Front, operation: str, **arguments: Any) -> str:
    return (await call(front, operation, **arguments)).meta.cache


READS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("get_contents", {"repo": "weather", "path": "README.md"}),
    ("get_contents", {"repo": "ann/weather", "path": "README.md"}),
    ("list_issues", {"repo": "Ann/Weather"}),
    ("list_repos", {}),
)


async def test_a_read_is_a_hit_until_its_repository_is_changed_under_any_of_its_names(front: Front) -> None:
    for operation, arguments in READS:
        assert await how(front, operation, **arguments) == "miss"
        assert await how(front, operation, **arguments) == "hit"

    await call(front, "create_issue", repo="ANN/WEATHER", title="A bug")

    assert {await how(front, operation, **arguments) for operation, arguments in READS} == {"miss"}
    listed = await call(front, "list_issues", repo="Ann/Weather")
    assert listed.meta.cache == "hit"
    assert "A bug" in str(listed.value)


async def test_a_batch_voids_what_each_of_its_parts_changes(front: Front) -> None:
    for name in ("weather", "other"):
        await call(front, "list_issues", repo=name)

    parts = [{"operation": "create_issue", "arguments": {"repo": "weather", "title": "B"}}]
    await call(front, "batch_changes", operations=parts)

    assert await how(front, "list_issues", repo="weather") == "miss"
    assert await how(front, "list_issues", repo="other") == "hit"


async def test_that_a_file_is_not_there_is_remembered_until_it_is(front: Front) -> None:
    wanted = {"repo": "weather", "path": "new.txt"}
    assert [await how(front, "get_contents", **wanted) for _ in range(2)] == ["miss", "hit"]

    await call(front, "put_file", repo="weather", path="new.txt", content="text", message="New")

    assert "text" in str((await call(front, "get_contents", **wanted)).value)


async def test_that_a_repository_is_not_there_is_remembered_until_it_is_made(front: Front) -> None:
    first, second = await how(front, "get_repo", repo="fresh"), await how(front, "get_repo", repo="ann/Fresh")

    await call(front, "create_repo", name="fresh")
    found = await call(front, "get_repo", repo="fresh")

    assert (first, second) == ("miss", "miss")  # spelled otherwise: another name, the same repository
    assert found.error is None

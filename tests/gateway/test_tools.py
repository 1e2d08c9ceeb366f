"""The catalogue, and the plain endpoint of each operation."""

import asyncio

import pytest

from tests.gateway.fake_front import OPERATIONS, operation
from tests.gateway.serving import Served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_catalogue_is_sent_once_and_then_confirmed(gateway: Served) -> None:
    first = await gateway.http.get("/v1/tools")
    etag = first.headers["etag"]

    same = await gateway.http.get("/v1/tools", headers={"If-None-Match": f'"other", W/{etag}'})
    other = await gateway.http.get("/v1/tools", headers={"If-None-Match": '"other"'})

    assert [entry["name"] for entry in first.json()["operations"]] == [
        "fail",
        "late",
        "lost",
        "miss",
        "say",
        "stop",
        "wait",
        "read",
    ]
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ["/v1/tools", "/openapi.json"])
async def test_a_catalogue_that_changed_has_a_new_tag(gateway: Served, path: str) -> None:
    before = await gateway.http.get(path)
    gateway.front.catalogue.append(operation("github", "search_code"))

    after = await gateway.http.get(path, headers={"If-None-Match": before.headers["etag"]})

    assert after.status_code == 200
    assert "search_code" in after.text


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("echo.say", ["echo.say"]),
        ("say", ["echo.say"]),
        ("repeat", ["echo.say"]),
        ("file", ["file.read"]),
        ("open", ["file.read"]),
        ("echo", [entry.full_name for entry in sorted(OPERATIONS, key=lambda one: one.name) if entry.tool == "echo"]),
    ],
)
async def test_operations_are_found_by_each_of_their_names(gateway: Served, name: str, found: list[str]) -> None:
    answer = await gateway.http.get(f"/v1/tools/{name}")

    assert [f"{entry['tool']}.{entry['name']}" for entry in answer.json()["operations"]] == found


async def test_an_unknown_name_is_answered_with_the_nearest(gateway: Served) -> None:
    answer = await gateway.http.get("/v1/tools/echo.sai")

    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/unknown-operation"
    assert answer.json()["details"]["nearest"][0] == "echo.say"


async def test_a_plain_endpoint_waits_and_gives_the_bare_value(gateway: Served) -> None:
    answer = await gateway.http.post("/tools/echo/say", json={"text": "hi"})

    assert (answer.status_code, answer.json()) == (200, "hi")
    assert gateway.front.submitted[0].operation == "echo.say"


async def test_a_plain_endpoint_needs_no_body(gateway: Served) -> None:
    answer = await gateway.http.post("/tools/echo/say")

    assert (answer.status_code, answer.json()) == (200, None)


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("fail", 422, "path-refused"),
        ("miss", 404, "not-found"),
        ("stop", 409, "call-cancelled"),
        ("late", 504, "call-expired"),
        ("lost", 504, "outcome-unknown"),
        ("nothing", 404, "unknown-operation"),
    ],
)
async def test_a_call_that_did_not_succeed_is_a_problem(gateway: Served, name: str, status: int, kind: str) -> None:
    answer = await gateway.http.post(f"/tools/echo/{name}", json={"text": "hi"})

    assert answer.status_code == status
    assert answer.json()["type"] == f"/problems/{kind}"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_outcome_comes_with_its_evidence_and_its_id(gateway: Served) -> None:
    answer = await gateway.http.post("/tools/echo/lost", json={"text": "hi"})

    details = answer.json()["details"]
    assert details["evidence"] == "effect begun at 12:00"
    assert details["id"] in gateway.front.calls
    assert answer.json()["retryable"] is False


async def test_a_call_that_takes_longer_than_the_wait_is_handed_over(gateway: Served) -> None:
    answer = await gateway.http.post("/tools/echo/wait", json={"text": "hi"}, headers={"Prefer": "wait=0.05"})

    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    assert answer.headers["location"] == f"/v1/calls/{answer.json()['id']}"


async def test_a_plain_endpoint_waits_until_the_call_ends(gateway: Served) -> None:
    waiting = asyncio.create_task(gateway.http.post("/tools/echo/wait", json={"text": "hi"}))
    await until(lambda: gateway.front.calls)

    gateway.front.finish(next(iter(gateway.front.calls)), [1, 2])

    assert (await waiting).json() == [1, 2]


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"{", b"null"])
async def test_arguments_that_are_no_object_are_refused(gateway: Served, content: bytes) -> None:
    answer = await gateway.http.post("/tools/echo/say", content=content)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"

"""`POST /v1/cache:{action}`."""

import pytest

from tests.gateway.fake_front import BROKER_DOWN
from tests.gateway.serving import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_action_and_what_is_meant_reach_the_front(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/cache:invalidate", json={"tags": ["repo:a/b"]})

    assert (answer.status_code, answer.json()) == (200, {"invalidated": ["repo:a/b"]})


async def test_without_a_body_nothing_special_is_meant(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/cache:stats")

    assert answer.status_code == 200


async def test_a_field_that_there_is_not_is_refused(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/cache:stats", json={"tag": "x"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_a_cache_that_cannot_be_reached_is_a_503(gateway: Served) -> None:
    gateway.front.raising["cache"] = BROKER_DOWN

    answer = await gateway.http.post("/v1/cache:stats")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_nobody_without_a_key_may_ask(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/cache:stats", headers={"authorization": "Bearer other"})

    assert answer.status_code == 401

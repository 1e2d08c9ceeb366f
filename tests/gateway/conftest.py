"""One gateway per test module, a fresh front per test."""

from collections.abc import AsyncGenerator

import pytest_asyncio

from tests.gateway.fake_front import FakeFront
from tests.gateway.serving import Served, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gateway() -> AsyncGenerator[Served]:
    async with serving(FakeFront()) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(module_gateway: Served) -> Served:
    module_gateway.front.reset()
    return module_gateway

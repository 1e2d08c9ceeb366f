"""The tool `bench` with one remembered read that takes a while, as a call to a remote API does."""

import asyncio

from store.configuration import Configuration
from tasks.operation import Run, Tool, operation
from toolswarm.messages import Effect, Remember

TTL_S = 3.0
RUN_S = 0.2


class Nothing:
    """The lookup needs no resources."""

    def __init__(self, configuration: Configuration) -> None:
        pass


@operation(effect=Effect.READ, time_limit_s=10, remember=Remember(ttl_s=TTL_S))
async def look_up(nothing: Nothing, run: Run, *, key: int) -> int:
    """Give the key back, after a while."""
    await asyncio.sleep(RUN_S)
    return key


TOOL = Tool(name="bench", open=Nothing, operations=(look_up,))

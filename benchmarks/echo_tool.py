"""The tool `bench` with the one operation that every contender runs: give the text back."""

from store.configuration import Configuration
from tasks.operation import Run, Tool, operation
from toolswarm.messages import Effect


class Nothing:
    """The echo needs no resources."""

    def __init__(self, configuration: Configuration) -> None:
        pass


@operation(effect=Effect.READ, time_limit_s=60)
async def echo(nothing: Nothing, run: Run, *, text: str) -> str:
    """Give the text back."""
    return text


TOOL = Tool(name="bench", open=Nothing, operations=(echo,))
